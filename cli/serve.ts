/**
 * The composition root: the only place that knows the engine, NBD, the API and the mounted tree together.
 *
 * They start in this order and stop in reverse, so that nothing is asked of a part that is gone: the engine goes last,
 * when nobody can write any more.
 *
 * @module
 */
import { configure, dispose, getLogger, getTextFormatter } from "@logtape/logtape";
import { serveApi } from "../api/mod.ts";
import { type MountedTree, mountTree } from "../fuse/mod.ts";
import { type Appliance, openAppliance } from "../src/appliance.ts";
import { VarveError } from "../src/base/errors.ts";
import { parseDuration } from "../src/base/units.ts";
import {
  adoptListener,
  makeTls,
  NbdServer,
  type PassedSocket,
  stdioTransport,
  takePassedSockets,
  type TlsUpgrade,
} from "../src/nbd/mod.ts";
import { refusePlainTcp, type ServeConfig, STDIO } from "./config.ts";
import type { Place } from "./serve_command.ts";

/** The module that has the host's kernel read what Varve does not. */
const KERNEL_READING = new URL("../fuse/kernel_reader/kernel_readers.ts", import.meta.url);
/** The serving thread of the tree that uses it. */
const KERNEL_TREE = new URL("../fuse/kernel_reader/tree_worker.ts", import.meta.url);

const logger = getLogger(["varve", "serve"]);

/**
 * Sockets that a service manager has passed to this process, all of them for NBD. Throws `unsupported` for one that is
 * named `api`, `invalid` when what was passed makes no sense.
 */
export function passedSockets(): PassedSocket[] {
  const passed = takePassedSockets();
  const foreign = passed.find(({ name }) => name === "api");
  if (foreign === undefined) return passed;
  throw new VarveError(
    "unsupported",
    `Take over descriptor ${foreign.fd}: the API can't be served on a passed socket`,
    {
      hint: "Pass sockets for NBD alone, and give the API its address with --api.",
    },
  );
}

/**
 * Runs the appliance until SIGTERM or SIGINT, or until a client on standard input and output leaves; a second signal
 * ends the process at once.
 */
export async function serve(
  config: ServeConfig,
  passed: readonly PassedSocket[],
  onReady: (place: Place) => void,
): Promise<void> {
  await using parts = new AsyncDisposableStack();
  await configureLogging();
  parts.defer(dispose);
  const stop = stopSignal();
  parts.defer(stop.release);

  const { reserveBytes, watermarkBytes } = config.storage ?? {};
  const appliance = await openAppliance({
    dataPath: config.data,
    baselineBytesPerSecond: config.baselineRate,
    scrub: config.scrub === false
      ? { everyMs: false }
      : { everyMs: parseDuration(config.scrub.every), rateBytes: config.scrub.rateBytes },
    storage: {
      ...(reserveBytes === undefined ? {} : { reserveBytes }),
      ...(watermarkBytes === undefined ? {} : { watermarkBytes }),
    },
    ...(config.kernelReaders ? { kernelReading: KERNEL_READING } : {}),
  });
  parts.defer(() => appliance.close());

  const nbd = new NbdServer({
    exports: appliance.nbdExports,
    maxConnections: config.nbdMaxConnections,
    idleTimeoutMs: config.nbdIdleTimeout === false ? 0 : parseDuration(config.nbdIdleTimeout),
    ...tlsOf(config.nbdTls),
    onProblem: (error) => {
      // A host may try again thousands of times a second; that space has ended is told once, as an event.
      if (error.code !== "no-space") logger.error("NBD: {error}", { error });
    },
  });
  parts.defer(() => nbd.close());
  for (const listener of passed.map(({ fd }) => adoptListener(fd))) {
    refusePlainTcp(config, [listener.address]);
    nbd.adopt(listener);
  }
  for (const address of config.nbd) if (address !== STDIO) await nbd.listen(address);

  const api = await serveApi({ engine: appliance, listen: config.api });
  parts.defer(() => api.close());

  const onStdio = config.nbd.includes(STDIO);
  const place: Place = {
    dataPath: config.data,
    nbd: [...nbd.addresses, ...(onStdio ? [STDIO] : [])],
    api: api.addresses,
  };
  const tell = () => appliance.setSurroundings(place);
  tell();
  if (config.mount !== false) {
    const tree = await mount(
      {
        path: config.mount,
        allowOther: config.mountAllowOther,
        ...(config.kernelReaders ? { workerUrl: KERNEL_TREE } : {}),
      },
      appliance,
      (error) => {
        delete place.mountPath;
        place.mountError = error;
        tell();
      },
    );
    if (tree !== undefined) {
      parts.defer(() => tree.unmount());
      place.mountPath = tree.path;
      tell();
    }
  }

  onReady(place);
  const ends: Promise<string>[] = [stop.asked];
  if (onStdio) ends.push(nbd.serve(stdioTransport()).then(() => "the end of the client"));
  const reason = await Promise.race(ends);
  logger.info("Stopping on {reason}", { reason });
}

function tlsOf(config: ServeConfig["nbdTls"]): { tls?: TlsUpgrade } {
  const { mode, certificate, key, clientCa, requireClientCertificate = false } = config;
  if (mode === "off" || certificate === undefined || key === undefined) return {};
  const tls = makeTls({
    required: mode === "require",
    certificatePath: certificate,
    keyPath: key,
    ...(clientCa === undefined ? {} : { clientCaPath: clientCa }),
    clientCertificateRequired: requireClientCertificate,
    onProblem: (error) => logger.error("NBD keeps its certificates: {error}", { error }),
  });
  return { tls };
}

/** Mounts the tree. That it cannot be is no reason not to capture: it is told, and the appliance goes on. */
async function mount(
  place: { path: string; allowOther: boolean; workerUrl?: URL },
  appliance: Appliance,
  onFailure: (error: string) => void,
): Promise<MountedTree | undefined> {
  const fail = (error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    const hint = error instanceof VarveError && error.hint !== undefined ? ` (${error.hint})` : "";
    logger.warn("The past is not mounted at {path}: {message}{hint}", { path: place.path, message, hint });
    onFailure(message + hint);
  };
  try {
    return await mountTree({
      ...place,
      engine: appliance,
      locate: (volume, seq) => appliance.locatePast(volume, seq),
      onEnded: (error) => fail(error ?? "Serving the mounted tree: somebody unmounted it"),
    });
  } catch (thrown) {
    fail(thrown);
    return undefined;
  }
}

async function configureLogging(): Promise<void> {
  const format = getTextFormatter({ timestamp: "rfc3339", level: "full", category: "." });
  const encoder = new TextEncoder();
  await configure({
    sinks: { stderr: (record) => Deno.stderr.writeSync(encoder.encode(format(record))) },
    loggers: [
      { category: "varve", sinks: ["stderr"], lowestLevel: "info" },
      { category: ["logtape", "meta"], sinks: ["stderr"], lowestLevel: "warning" },
    ],
  });
}

function stopSignal(): { asked: Promise<Deno.Signal>; release: () => void } {
  const asked = Promise.withResolvers<Deno.Signal>();
  let count = 0;
  const listeners = (["SIGTERM", "SIGINT"] as const).map((signal) => {
    const listener = () => {
      if (++count > 1) Deno.exit(1);
      asked.resolve(signal);
    };
    Deno.addSignalListener(signal, listener);
    return () => Deno.removeSignalListener(signal, listener);
  });
  return { asked: asked.promise, release: () => listeners.forEach((remove) => remove()) };
}

/**
 * `varve serve`: reads options and configuration; `serve.ts` does the work. It is loaded only when it is wanted, for
 * the other commands need none of the engine.
 *
 * @module
 */
import type { Command } from "commander";
import { resolve } from "node:path";
import { VarveError } from "../src/base/errors.ts";
import { choiceArgument, collect, countArgument, durationArgument, sizeArgument } from "./command.ts";
import type { ServeFlags } from "./config.ts";
import type { Terminal } from "./terminal.ts";

interface ServeOptions {
  data?: string;
  mount?: string | false;
  allowOther?: true;
  nbd?: string[];
  nbdTls?: "require" | "allow" | "off";
  nbdTlsCert?: string;
  nbdTlsKey?: string;
  nbdTlsCa?: string;
  nbdTlsRequireClientCert?: true;
  nbdPlainTcp?: true;
  nbdMaxConnections?: number;
  nbdIdleTimeout?: string;
  api?: string[];
  baselineRate?: number;
  kernelReaders?: true;
  config?: string;
  json?: true;
}

/** Adds the command. */
export function addServe(program: Command, terminal: Terminal): void {
  program.command("serve")
    .summary("Run the appliance in the foreground")
    .description("Run the appliance in the foreground, until SIGTERM or SIGINT.")
    .option("--data <dir>", "the data folder (/var/lib/varve)")
    .option("--mount <dir>", "where to mount the tree of the past (/varve)")
    .option("--no-mount", "mount it nowhere")
    .option("--allow-other", "let other users see the tree, as far as the guest's modes let them")
    .option(
      "--nbd <listen>",
      "address for NBD, may be given again, or stdio (unix:/run/varve/nbd.sock)",
      collect(String),
    )
    .option(
      "--nbd-tls <mode>",
      "whether NBD clients encrypt: require, allow or off (off)",
      choiceArgument(["require", "allow", "off"] as const),
    )
    .option("--nbd-tls-cert <file>", "the server's certificate, PEM")
    .option("--nbd-tls-key <file>", "its private key, PEM")
    .option("--nbd-tls-ca <file>", "authorities of clients' certificates, PEM: those shown are verified")
    .option("--nbd-tls-require-client-cert", "refuse clients that show no certificate")
    .option("--nbd-plain-tcp", "let NBD listen beyond this machine without demanding TLS")
    .option("--nbd-max-connections <count>", "NBD clients at the same time (256)", countArgument)
    .option(
      "--nbd-idle-timeout <duration>",
      "end NBD clients that are idle for so long (never)",
      durationArgument,
    )
    .option(
      "--api <listen>",
      "address for the API, may be given again (unix:/run/varve/api.sock and 127.0.0.1:8460)",
      collect(String),
    )
    .option("--baseline-rate <size>", "how much of an adopted disk is copied a second (128M)", sizeArgument)
    .option(
      "--kernel-readers",
      "let this host's kernel read guests' file systems that Varve does not read; a hostile disk then reaches it",
    )
    .option("--config <file>", "JSON file; its keys are data, mount, nbd, nbdTls, api and so on")
    .option("--json", "tell where everything is as JSON")
    .addHelpText(
      "after",
      "\nExample:\n  varve serve --data /srv/varve --mount /mnt/past --api 127.0.0.1:8460\n",
    )
    .action(async (options: ServeOptions) => {
      const { passedSockets, serve } = await import("./serve.ts");
      const passed = passedSockets();
      const { makeConfig, STDIO } = await import("./config.ts");
      const config = makeConfig(
        flagsOf(options),
        options.config === undefined ? undefined : await readFile(options.config),
        passed.length > 0,
      );
      // With a client on standard output, nothing else may be said there.
      const tell = config.nbd.includes(STDIO) ? terminal.err : terminal.out;
      await serve(
        config,
        passed,
        (place) => tell(options.json ? `${JSON.stringify(place)}\n` : placeText(place)),
      );
    });
}

function flagsOf(options: ServeOptions): ServeFlags {
  const { data, mount, allowOther, nbd, api, baselineRate } = options;
  const { nbdPlainTcp, nbdMaxConnections, nbdIdleTimeout, kernelReaders } = options;
  const { nbdTls: mode, nbdTlsCert, nbdTlsKey, nbdTlsCa, nbdTlsRequireClientCert } = options;
  const nbdTls = {
    ...(mode === undefined ? {} : { mode }),
    ...(nbdTlsCert === undefined ? {} : { certificate: resolve(nbdTlsCert) }),
    ...(nbdTlsKey === undefined ? {} : { key: resolve(nbdTlsKey) }),
    ...(nbdTlsCa === undefined ? {} : { clientCa: resolve(nbdTlsCa) }),
    ...(nbdTlsRequireClientCert === undefined ? {} : { requireClientCertificate: true }),
  };
  return {
    ...(data === undefined ? {} : { data: resolve(data) }),
    ...(mount === undefined ? {} : { mount: mount && resolve(mount) }),
    ...(allowOther === undefined ? {} : { mountAllowOther: allowOther }),
    ...(nbd === undefined ? {} : { nbd }),
    ...(api === undefined ? {} : { api }),
    ...(baselineRate === undefined ? {} : { baselineRate }),
    ...(nbdPlainTcp === undefined ? {} : { nbdPlainTcp }),
    ...(nbdMaxConnections === undefined ? {} : { nbdMaxConnections }),
    ...(nbdIdleTimeout === undefined ? {} : { nbdIdleTimeout }),
    ...(kernelReaders === undefined ? {} : { kernelReaders }),
    nbdTls,
  };
}

function placeText(place: Place): string {
  const mounted = place.mountPath ??
    `nowhere${place.mountError === undefined ? "" : `: ${place.mountError}`}`;
  return `varve: data in ${place.dataPath}\n` +
    `varve: NBD on ${place.nbd.join(", ")}\n` +
    `varve: API on ${place.api.join(", ")}\n` +
    `varve: past mounted at ${mounted}\n` +
    "varve: ready\n";
}

/** Where a running appliance is to be found. */
export interface Place {
  /** The data folder. */
  dataPath: string;
  /** Addresses of NBD. */
  nbd: string[];
  /** Addresses of the API. */
  api: string[];
  /** Where the tree is mounted. */
  mountPath?: string;
  /** Why it is not, although it should be. */
  mountError?: string;
}

async function readFile(path: string): Promise<{ path: string; text: string }> {
  try {
    return { path, text: await Deno.readTextFile(path) };
  } catch (thrown) {
    throw VarveError.from(thrown, `Reading the configuration ${path}`);
  }
}

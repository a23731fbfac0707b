/**
 * The API on real sockets.
 *
 * @module
 */
import { dirname } from "node:path";
import { VarveError } from "../src/base/errors.ts";
import type { Engine } from "../src/engine.ts";
import { formatListenAddress, type ListenAddress, parseListenAddress } from "../src/nbd/mod.ts";
import { createApi } from "./app.ts";
import type { ApiApp } from "./context.ts";

/** Requests that are under way at {@linkcode ApiServer.close} get so long to end. */
const GRACE_MS = 5_000;

/** What {@linkcode serveApi} takes. */
export interface ServeApiOptions {
  /** What the API speaks for. */
  engine: Engine;
  /** Addresses: `unix:/path` or `HOST:PORT`. */
  listen: readonly string[];
}

/** A running API. */
export interface ApiServer {
  /** Where it listens, in the order asked for; port 0 has become the real one. */
  addresses: string[];
  /** Ends open streams, lets requests finish for a few seconds, removes the sockets. */
  close(): Promise<void>;
}

interface Listening {
  server: Deno.HttpServer;
  address: ListenAddress;
}

/**
 * Listens on every address, or on none: when one fails, those before it are closed again.
 *
 * A Unix socket gets the mode 0600, and its folder is made. A socket that a dead server left is replaced; one that
 * somebody answers on is not.
 *
 * @throws {VarveError} `invalid` for an address that cannot be read, `conflict` for one that is taken, `forbidden`,
 * `io`.
 */
export async function serveApi({ engine, listen }: ServeApiOptions): Promise<ApiServer> {
  const addresses = listen.map(parseListenAddress);
  const closing = new AbortController();
  const app = createApi(engine, { closing: closing.signal });
  const servers: Listening[] = [];

  const close = async () => {
    closing.abort();
    await Promise.all(servers.map(async ({ server, address }) => {
      await endWithin(server.shutdown(), GRACE_MS);
      if (address.kind === "unix") await removeSocket(address.path);
    }));
  };

  try {
    for (const address of addresses) servers.push(await listenAt(app, address));
  } catch (thrown) {
    await close();
    throw thrown;
  }
  return { addresses: servers.map(({ address }) => formatListenAddress(address)), close };
}

async function listenAt(app: ApiApp, address: ListenAddress): Promise<Listening> {
  try {
    return address.kind === "unix" ? await listenUnix(app, address.path) : listenTcp(app, address);
  } catch (thrown) {
    const tried = `Listening on ${formatListenAddress(address)}`;
    if (!(thrown instanceof Deno.errors.AddrInUse)) throw VarveError.from(thrown, tried);
    throw new VarveError("conflict", `${tried}: the address is in use`, {
      cause: thrown,
      hint: "Stop the other server, or choose another address with --api.",
    });
  }
}

function listenTcp(app: ApiApp, { hostname, port }: ListenAddress & { kind: "tcp" }): Listening {
  const server = Deno.serve(
    { hostname, port, onListen: () => {} },
    (request) => app.fetch(request, { transport: "tcp" }),
  );
  return { server, address: { kind: "tcp", hostname, port: server.addr.port } };
}

async function listenUnix(app: ApiApp, path: string): Promise<Listening> {
  await Deno.mkdir(dirname(path), { recursive: true });
  await clearStaleSocket(path);
  // The mask makes the socket private from its first instant; a chmod afterwards would leave a gap.
  const mask = Deno.umask(0o177);
  try {
    const server = Deno.serve(
      { transport: "unix", path, onListen: () => {} },
      (request) => app.fetch(request, { transport: "unix" }),
    );
    return { server, address: { kind: "unix", path } };
  } finally {
    Deno.umask(mask);
  }
}

/** Removes the socket of a server that is gone; one that is alive, or a path that is no socket, stays. */
async function clearStaleSocket(path: string): Promise<void> {
  const found = await Deno.lstat(path).catch(ignoreNotFound);
  if (found === undefined) return;
  if (!found.isSocket) {
    throw new VarveError("conflict", `Listening on unix:${path}: the path is there and is no socket`);
  }
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (thrown) {
    if (!(thrown instanceof Deno.errors.ConnectionRefused)) throw thrown;
    await removeSocket(path);
    return;
  }
  throw new Deno.errors.AddrInUse();
}

async function removeSocket(path: string): Promise<void> {
  await Deno.remove(path).catch(ignoreNotFound);
}

function ignoreNotFound(thrown: unknown): undefined {
  if (thrown instanceof Deno.errors.NotFound) return undefined;
  throw thrown;
}

async function endWithin(work: Promise<void>, ms: number): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, ms);
  await Promise.race([work, late.promise]);
  clearTimeout(timer);
}

/**
 * The LISTEN grammar of the command line, `unix:/path` or `HOST:PORT`, and sockets opened by it.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { isIPv4 } from "node:net";
import { dirname } from "node:path";
import { VarveError } from "../base/errors.ts";
import { Acceptor } from "./_acceptor.ts";
import { libc } from "./_libc.ts";
import { boundAddress, listenAtPath, listenAtPort, streamSocketKind, takeOver } from "./_sockets.ts";
import { socketTransport } from "./socket_transport.ts";
import type { Transport } from "./transport.ts";

/** A place to listen at. */
export type ListenAddress =
  | {
    /** A Unix socket. */
    readonly kind: "unix";
    /** Where it is. */
    readonly path: string;
  }
  | {
    /** A TCP port. */
    readonly kind: "tcp";
    /** Name or address, an IPv6 address without its brackets. */
    readonly hostname: string;
    /** From 0, which means any free one, to 65535. */
    readonly port: number;
  };

/** Reads `unix:/path`, `HOST:PORT` or `[IPV6]:PORT`; throws `invalid` for anything else. */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length);
    if (path !== "" && !path.includes("\0")) return { kind: "unix", path };
  } else {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+)):([0-9]{1,5})$/.exec(text);
    const hostname = match?.[1] ?? match?.[2];
    const port = Number(match?.[3]);
    if (hostname !== undefined && port <= 65535) return { kind: "tcp", hostname, port };
  }
  throw new VarveError("invalid", `read a listen address: "${text}" is neither unix:/path nor HOST:PORT`);
}

/** The text that {@linkcode parseListenAddress} reads. */
export function formatListenAddress(address: ListenAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  return address.hostname.includes(":")
    ? `[${address.hostname}]:${address.port}`
    : `${address.hostname}:${address.port}`;
}

/** Whether only programs of this machine can connect. A name counts as one of this machine if it is `localhost`. */
export function isLocal(address: ListenAddress): boolean {
  if (address.kind === "unix") return true;
  const { hostname } = address;
  return hostname === "localhost" || hostname === "::1" || (isIPv4(hostname) && hostname.startsWith("127."));
}

/** A socket that listens. */
export interface OpenListener {
  /** Where it listens; a port of 0 has become the real one. */
  readonly address: string;
  /** Waits for the next connection; throws when closed. One waits at a time. */
  accept(): Promise<Transport>;
  /** Stops listening; a Unix socket's file goes with it. May be called again. */
  close(): void;
}

/**
 * Listens at an address. A Unix socket is for its owner alone (mode 0600); missing parent directories are made, and
 * the file of a dead server is replaced. Throws `conflict` when somebody listens there already or something else is
 * in the way, `not-found` for a host name without an address.
 */
export async function openListener(text: string): Promise<OpenListener> {
  const address = parseListenAddress(text);
  try {
    return address.kind === "unix"
      ? await listenUnix(address.path)
      : await listenTcp(address.hostname, address.port);
  } catch (thrown) {
    if (thrown instanceof VarveError && causeCode(thrown) === "EADDRINUSE") {
      throw new VarveError("conflict", `listen at ${text}: somebody else does already`, { cause: thrown });
    }
    throw VarveError.from(thrown, `listen at ${text}`);
  }
}

function causeCode({ cause }: VarveError): unknown {
  return typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined;
}

async function listenTcp(hostname: string, port: number): Promise<OpenListener> {
  const { address } = await lookup(hostname);
  const fd = listenAtPort(address, port);
  const bound = Number(/[0-9]+$/.exec(boundAddress(fd))?.[0]);
  return listening(fd, formatListenAddress({ kind: "tcp", hostname, port: bound }));
}

async function listenUnix(path: string): Promise<OpenListener> {
  const folder = dirname(path);
  await Deno.mkdir(folder, { recursive: true });
  await refuseUnlessDead(path);
  // Born in a private folder and moved when its mode is set: there is no moment in which others may connect.
  const nursery = await Deno.makeTempDir({ dir: folder, prefix: "." });
  try {
    const born = `${nursery}/s`;
    const fd = listenAtPath(born);
    try {
      Deno.chmodSync(born, 0o600);
      const { dev, ino } = Deno.lstatSync(born);
      Deno.renameSync(born, path);
      return listening(fd, formatListenAddress({ kind: "unix", path }), () => {
        const found = lstatOrUndefined(path);
        if (found?.dev === dev && found.ino === ino) Deno.removeSync(path);
      });
    } catch (thrown) {
      libc.close(fd);
      throw thrown;
    }
  } finally {
    await Deno.remove(nursery, { recursive: true });
  }
}

/**
 * Listens by a socket that somebody else has opened, which it then owns; a Unix socket's file stays. Throws `invalid`
 * for a descriptor that is no listening stream socket.
 */
export function adoptListener(fd: number): OpenListener {
  if (streamSocketKind(fd) !== "listening") {
    throw new VarveError("invalid", `listen by descriptor ${fd}: it is no listening stream socket`);
  }
  takeOver(fd);
  return listening(fd, boundAddress(fd));
}

/** Accepts from a listening, nonblocking socket, which it then owns; `onClosed` runs once it is closed. */
function listening(fd: number, address: string, onClosed = () => {}): OpenListener {
  const acceptor = new Acceptor(fd);
  return {
    address,
    accept: async () => socketTransport(await acceptor.accept()),
    close() {
      acceptor.close();
      onClosed();
      onClosed = () => {};
    },
  };
}

/** Throws `conflict` when there is anything at the path but a socket on which nobody answers. */
async function refuseUnlessDead(path: string): Promise<void> {
  const found = lstatOrUndefined(path);
  if (found === undefined) return;
  if (!found.isSocket) {
    throw new VarveError("conflict", `listen at unix:${path}: something that is no socket is in the way`);
  }
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (thrown) {
    if (thrown instanceof Deno.errors.ConnectionRefused) return;
    throw thrown;
  }
  throw new VarveError("conflict", `listen at unix:${path}: somebody else does already`);
}

function lstatOrUndefined(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (thrown) {
    if (thrown instanceof Deno.errors.NotFound) return undefined;
    throw thrown;
  }
}

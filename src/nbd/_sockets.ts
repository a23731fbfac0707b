/**
 * Sockets by libc: addresses, options, and calls whose failures are errors.
 *
 * All of them are O_NONBLOCK, a connected one but for the time of a call on another thread. Such a call gives up after a
 * while, so that a client that stalls never holds a thread.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { lastErrno } from "../base/errno.ts";
import { Errno, libc, systemError } from "./_libc.ts";
import type { ClientInfo } from "./exports.ts";

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const O_NONBLOCK = SOCK_NONBLOCK;
const F_GETFD = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const SHUT_RDWR = 2;
const BACKLOG = 1024;

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_TYPE = 3;
const SO_SNDBUF = 7;
const SO_KEEPALIVE = 9;
const SO_PEERCRED = 17;
const SO_RCVTIMEO = 20;
const SO_ACCEPTCONN = 30;
const SO_SNDBUFFORCE = 32;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;

/** A peer that is gone without a word is noticed after about two minutes. */
const KEEPALIVE = { idleSeconds: 60, intervalSeconds: 15, probes: 4 };
/** Longest wait of a call on another thread. */
const WAIT_MICROSECONDS = 500_000;
/** What a Unix socket may hold for a client that has not read it yet: two large reads, without a wait in between. */
const SEND_BUFFER_BYTES = 2 * 1024 * 1024;
/** `sizeof(struct sockaddr_storage)`. */
const ADDRESS_BYTES = 128;
/** Longest path of a Unix socket: `sizeof(sun_path)` without the final zero. */
const MAX_PATH_BYTES = 107;

/** A connected socket, and who is at its other end. */
export interface Accepted {
  /** The descriptor, which the receiver closes. */
  readonly fd: number;
  /** `HOST:PORT`, or `unix`. */
  readonly peer: string;
  /** Who connected over a Unix socket. */
  readonly credentials?: NonNullable<ClientInfo["credentials"]>;
}

/** Listens at a Unix socket, whose file is made. */
export function listenAtPath(path: string): number {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length > MAX_PATH_BYTES) {
    throw new VarveError(
      "invalid",
      `listen at unix:${path}: the path is longer than ${MAX_PATH_BYTES} bytes`,
    );
  }
  const address = new Uint8Array(2 + bytes.length + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(bytes, 2);
  return listenAt(AF_UNIX, address);
}

/** Listens at a TCP port of an IP address. */
export function listenAtPort(ip: string, port: number): number {
  const six = ip.includes(":");
  const address = new Uint8Array(six ? 28 : 16);
  const view = new DataView(address.buffer);
  view.setUint16(0, six ? AF_INET6 : AF_INET, true);
  view.setUint16(2, port);
  const text = new TextEncoder().encode(`${ip}\0`);
  if (libc.inet_pton(six ? AF_INET6 : AF_INET, text, address.subarray(six ? 8 : 4)) !== 1) {
    throw new VarveError("invalid", `listen at ${ip}: it is no IP address`);
  }
  return listenAt(six ? AF_INET6 : AF_INET, address);
}

function listenAt(family: number, address: Uint8Array<ArrayBuffer>): number {
  const fd = libc.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError("make a socket");
  try {
    if (family !== AF_UNIX) setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (libc.bind(fd, address, address.length) < 0) throw systemError("bind a socket");
    if (libc.listen(fd, BACKLOG) < 0) throw systemError("listen at a socket");
    return fd;
  } catch (thrown) {
    libc.close(fd);
    throw thrown;
  }
}

/** The address that a socket is bound to: `HOST:PORT`, or `unix:PATH` with `@` for the zero of an abstract name. */
export function boundAddress(fd: number): string {
  const address = new Uint8Array(ADDRESS_BYTES);
  const length = Uint32Array.of(ADDRESS_BYTES);
  if (libc.getsockname(fd, address, length) < 0) throw systemError("ask for an address");
  const view = new DataView(address.buffer);
  if (view.getUint16(0, true) !== AF_UNIX) return peerOf(view);
  const [first = 0, ...rest] = address.subarray(2, length[0]);
  const end = first === 0 ? rest.length : rest.indexOf(0);
  const path = new TextDecoder().decode(Uint8Array.from(rest.slice(0, end < 0 ? undefined : end)));
  return `unix:${first === 0 ? "@" : String.fromCharCode(first)}${path}`;
}

/** What kind of stream socket a descriptor is that somebody else has opened, or `undefined` when it is none. */
export function streamSocketKind(fd: number): "listening" | "connected" | undefined {
  if (optionOf(fd, SO_TYPE) !== SOCK_STREAM) return undefined;
  return optionOf(fd, SO_ACCEPTCONN) === 1 ? "listening" : "connected";
}

function optionOf(fd: number, option: number): number | undefined {
  const value = new Int32Array(1);
  return libc.getsockopt(fd, SOL_SOCKET, option, value, Uint32Array.of(4)) < 0 ? undefined : value[0];
}

/** Makes a descriptor that somebody else has opened like one of ours: no child inherits it, and nothing waits for it. */
export function takeOver(fd: number): void {
  libc.fcntl(fd, F_SETFD, libc.fcntl(fd, F_GETFD, 0) | FD_CLOEXEC);
  setBlocking(fd, false);
}

/** A connected socket that somebody else has opened, ready to serve. */
export function takeConnected(fd: number): Accepted {
  const address = new Uint8Array(ADDRESS_BYTES);
  if (libc.getsockname(fd, address, Uint32Array.of(ADDRESS_BYTES)) < 0) {
    throw systemError("ask for an address");
  }
  takeOver(fd);
  return prepare(fd, new DataView(address.buffer));
}

/**
 * The next connection of a listening socket, ready to serve; `undefined` when there is none for now. Throws `io` when
 * there are no descriptors left.
 */
export function accept(listener: number): Accepted | undefined {
  const address = new Uint8Array(ADDRESS_BYTES);
  for (;;) {
    const fd = libc.accept4(listener, address, Uint32Array.of(ADDRESS_BYTES), SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      try {
        return prepare(fd, new DataView(address.buffer));
      } catch (thrown) {
        libc.close(fd);
        throw thrown;
      }
    }
    const errno = lastErrno();
    if (errno === Errno.EAGAIN) return undefined;
    // A client that is gone before it was accepted is not the listener's failure.
    if (errno !== Errno.EINTR && errno !== Errno.ECONNABORTED) throw systemError("accept a client", errno);
  }
}

function prepare(fd: number, address: DataView<ArrayBuffer>): Accepted {
  const limit = new BigInt64Array([0n, BigInt(WAIT_MICROSECONDS)]);
  if (libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, limit, limit.byteLength) < 0) {
    throw systemError("limit waits");
  }
  if (address.getUint16(0, true) === AF_UNIX) {
    // Without the right to force it, the system's own limit holds.
    const room = Int32Array.of(SEND_BUFFER_BYTES);
    if (libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, room, room.byteLength) < 0) {
      setOption(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES);
    }
    return { fd, peer: "unix", credentials: credentialsOf(fd) };
  }
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  setOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE.idleSeconds);
  setOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE.intervalSeconds);
  setOption(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE.probes);
  return { fd, peer: peerOf(address) };
}

function peerOf(address: DataView<ArrayBuffer>): string {
  const port = address.getUint16(2);
  const bytes = new Uint8Array(address.buffer);
  if (address.getUint16(0, true) === AF_INET) return `${bytes.subarray(4, 8).join(".")}:${port}`;
  const groups = Array.from({ length: 8 }, (_, index) => address.getUint16(8 + 2 * index).toString(16));
  // The URL parser knows the one right way to shorten an IPv6 address.
  const { hostname } = new URL(`http://[${groups.join(":")}]`);
  const mapped = groups.slice(0, 6).join(":") === "0:0:0:0:0:ffff";
  return mapped ? `${bytes.subarray(20, 24).join(".")}:${port}` : `${hostname}:${port}`;
}

/** `struct ucred { pid_t pid; uid_t uid; gid_t gid; }` */
function credentialsOf(fd: number): NonNullable<Accepted["credentials"]> {
  const found = new Uint32Array(3);
  if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, found, Uint32Array.of(found.byteLength)) < 0) {
    throw systemError("ask who connected");
  }
  const [pid = 0, uid = 0, gid = 0] = found;
  return { pid, uid, gid };
}

function setOption(fd: number, level: number, option: number, value: number): void {
  if (libc.setsockopt(fd, level, option, Int32Array.of(value), 4) < 0) throw systemError("set up a socket");
}

/** Another descriptor of the same socket. */
export function duplicate(fd: number): number {
  const other = libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (other < 0) throw systemError("duplicate a descriptor");
  return other;
}

/** Lets calls that do not say MSG_DONTWAIT wait, or not. It holds for all descriptors of the socket. */
export function setBlocking(fd: number, blocking: boolean): void {
  const flags = libc.fcntl(fd, F_GETFL, 0);
  libc.fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

/** Ends both directions: the peer sees the end, and calls that wait on other threads return. */
export function shutDown(fd: number): void {
  libc.shutdown(fd, SHUT_RDWR);
}

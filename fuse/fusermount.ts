/**
 * Mounts and unmounts for users other than root, through `fusermount3`, which is setuid root.
 *
 * The protocol, as libfuse speaks it: the helper finds the number of a Unix socket in `_FUSE_COMMFD`, opens
 * `/dev/fuse`, mounts it, sends its descriptor over the socket (SCM_RIGHTS, see unix(7)) with one byte that says
 * nothing, and exits. Whoever is started with `_FUSE_COMMFD` needs the socket under that number, and nobody else may
 * inherit it: it is made close-on-exec and handed over for this one process.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { type ErrorCode, VarveError } from "../src/base/errors.ts";
import { lastErrno } from "../src/base/errno.ts";
import { ERRNO, errnoName } from "./errno.ts";
import { libc } from "./libc.ts";

/** The helper's name; it is looked for in `PATH`. */
const PROGRAM = "fusermount3";
/** Number of the socket in the helper: the first behind the standard streams. */
const HELPER_SOCKET = 3;
/** How much of what the helper says is kept, from its end, in characters. */
const SAID_MAX = 4000;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** What the helper says when it refuses, what that means and what helps. */
const REFUSALS: readonly (readonly [said: RegExp, code: ErrorCode, hint: string])[] = [
  [
    /user_allow_other/,
    "forbidden",
    "Root can allow it by the line user_allow_other in /etc/fuse.conf; or serve without --allow-other.",
  ],
  [
    /\/dev\/fuse.*Permission denied/i,
    "forbidden",
    "Let this user open /dev/fuse for reading and writing (mode 0666, or a group of its own).",
  ],
  [/\/dev\/fuse|fuse device not found|modprobe/i, "unsupported", "Load the kernel module: modprobe fuse."],
  [
    /no write access|not owned|Permission denied/i,
    "forbidden",
    "Choose a folder that belongs to this user with --mount.",
  ],
  [
    /Operation not permitted/i,
    "forbidden",
    "fusermount3 must be setuid root, and a service that runs it must be allowed new privileges.",
  ],
  [/mount_max/, "conflict", "Raise mount_max in /etc/fuse.conf, or unmount another FUSE file system."],
];

/**
 * Mounts on a folder with the options given; answers the descriptor of `/dev/fuse`, which is the caller's to close.
 *
 * Throws `unsupported` without the helper or without FUSE, `forbidden` when this user may not, `conflict` or `io`.
 */
export async function mountByHelper(
  path: string,
  options: readonly string[],
  program = PROGRAM,
): Promise<number> {
  const [ours, theirs] = socketPair();
  try {
    const { code, said } = await runHelper(program, ["-o", options.join(","), "--", path], theirs);
    if (code !== 0) throw refusal(path, said);
    // It has exited, so what it had to send lies ready.
    const device = receiveDescriptor(ours);
    if (device !== undefined) return device;
    await unmountByHelper(path, program);
    throw new VarveError("io", `Mount the tree on ${path}: ${PROGRAM} sent no descriptor`);
  } finally {
    libc.close(ours);
    libc.close(theirs);
  }
}

/** Detaches what this user has mounted at a path; answers whether the helper agreed. */
export async function unmountByHelper(path: string, program = PROGRAM): Promise<boolean> {
  return (await runHelper(program, ["-u", "-q", "-z", "--", path])).code === 0;
}

function refusal(path: string, said: string): VarveError {
  const reason = said.trim().split("\n").at(-1)?.replace(/^fusermount3?: */, "") || "no reason given";
  const message = `Mount the tree on ${path} by ${PROGRAM}: ${reason}`;
  const [, code, hint] = REFUSALS.find(([form]) => form.test(reason)) ?? [];
  return new VarveError(code ?? "io", message, hint === undefined ? {} : { hint });
}

interface Ended {
  code: number | null;
  /** What it wrote to standard error. */
  said: string;
}

/** Runs the helper to its end, with a socket or without. */
function runHelper(program: string, args: string[], socket?: number): Promise<Ended> {
  const ended = Promise.withResolvers<Ended>();
  const child = spawn(program, args, {
    stdio: ["ignore", "ignore", "pipe", ...(socket === undefined ? [] : [socket])],
    env: {
      PATH: Deno.env.get("PATH") ?? "/usr/bin:/bin",
      LC_ALL: "C",
      ...(socket === undefined ? {} : { _FUSE_COMMFD: `${HELPER_SOCKET}` }),
    },
  });
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => said = (said + text).slice(-SAID_MAX));
  child.once("error", (error) => {
    const isMissing = "code" in error && error.code === "ENOENT";
    ended.reject(
      isMissing
        ? new VarveError("unsupported", `Run ${PROGRAM}: it is not installed`, {
          hint: "Users other than root need it to mount; on Debian it is in the package fuse3.",
        })
        : VarveError.from(error, `Run ${PROGRAM}`),
    );
  });
  child.once("close", (code) => ended.resolve({ code, said }));
  return ended.promise;
}

function socketPair(): [ours: number, theirs: number] {
  const pair = new Int32Array(2);
  if (libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) !== 0) {
    throw new VarveError("io", `Make a pair of sockets: ${errnoName(lastErrno())}`);
  }
  const [ours = -1, theirs = -1] = pair;
  return [ours, theirs];
}

/** The parts of one buffer that `recvmsg` works on, as 64-bit Linux lays them out. */
const MESSAGE = {
  /** `struct msghdr`, of which name and flags stay zero. */
  HEADER: { iov: 16, iovlen: 24, control: 32, controllen: 40 },
  /** One `struct iovec`: base, len. */
  IOVEC: 56,
  /** The byte that says nothing. */
  DATA: 72,
  /** `struct cmsghdr` (len, level, type) and one descriptor, padded to 8 bytes. */
  CONTROL: 80,
  BYTES: 104,
} as const;
const CONTROL_BYTES = MESSAGE.BYTES - MESSAGE.CONTROL;
/** What `cmsg_len` says of one descriptor: 16 bytes of header and 4 of number. */
const ONE_DESCRIPTOR_BYTES = 20;

/** Takes the descriptor that lies ready in a socket; `undefined` when there is none. */
function receiveDescriptor(socket: number): number | undefined {
  const buffer = new Uint8Array(MESSAGE.BYTES);
  const view = new DataView(buffer.buffer);
  const at = Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
  view.setBigUint64(MESSAGE.HEADER.iov, at + BigInt(MESSAGE.IOVEC), true);
  view.setBigUint64(MESSAGE.HEADER.iovlen, 1n, true);
  view.setBigUint64(MESSAGE.HEADER.control, at + BigInt(MESSAGE.CONTROL), true);
  view.setBigUint64(MESSAGE.HEADER.controllen, BigInt(CONTROL_BYTES), true);
  view.setBigUint64(MESSAGE.IOVEC, at + BigInt(MESSAGE.DATA), true);
  view.setBigUint64(MESSAGE.IOVEC + 8, 1n, true);
  let received;
  do received = libc.recvmsg(socket, buffer, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); while (
    received < 0 && lastErrno() === ERRNO.EINTR
  );
  if (received <= 0) return undefined;
  const isDescriptor = view.getBigUint64(MESSAGE.HEADER.controllen, true) >= ONE_DESCRIPTOR_BYTES &&
    view.getBigUint64(MESSAGE.CONTROL, true) === BigInt(ONE_DESCRIPTOR_BYTES) &&
    view.getInt32(MESSAGE.CONTROL + 8, true) === SOL_SOCKET &&
    view.getInt32(MESSAGE.CONTROL + 12, true) === SCM_RIGHTS;
  return isDescriptor ? view.getInt32(MESSAGE.CONTROL + 16, true) : undefined;
}

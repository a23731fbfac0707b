/**
 * The descriptor of `/dev/fuse`: requests in, replies out.
 *
 * The descriptor is O_NONBLOCK. One nonblocking `poll` on another thread wakes the loop; `receive` then drains
 * by synchronous reads until the kernel has no more. A reply is one synchronous `write` of header and body,
 * which lie one behind the other, so neither is copied together.
 *
 * Descriptors belong to the process: the thread that opened them may pass their numbers to the thread that
 * serves. Whoever opened them closes them, after the serving thread has left its loop.
 *
 * @module
 */
import { VarveError } from "../src/base/errors.ts";
import { REQUEST_BUFFER_BYTES } from "./abi.ts";
import { ERRNO, errnoName } from "./errno.ts";
import { lastErrno } from "../src/base/errno.ts";
import { cString, libc } from "./libc.ts";

const O_RDWR = 0o2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const F_GETFL = 3;
const F_SETFL = 4;
const POLLIN = 0x1;

/** The two descriptors of a mount: `device` is `/dev/fuse`, `wake` an eventfd that ends the poll. */
export interface DeviceHandles {
  /** Descriptor of `/dev/fuse`. */
  readonly device: number;
  /** Descriptor of the eventfd. */
  readonly wake: number;
}

/** Opens `/dev/fuse` for one mount. Throws `unsupported` when there is no such device, `forbidden`, or `io`. */
export function openDevice(): DeviceHandles {
  const device = libc.open(cString("/dev/fuse"), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (device < 0) throw openFailure(lastErrno());
  return deviceHandles(device);
}

/**
 * Takes over a descriptor of `/dev/fuse` that is open already, and lets its reads return at once. When that fails, the
 * descriptor is closed.
 */
export function takeDevice(device: number): DeviceHandles {
  const flags = libc.fcntl(device, F_GETFL, 0);
  if (flags < 0 || libc.fcntl(device, F_SETFL, flags | O_NONBLOCK) < 0) {
    const errno = lastErrno();
    libc.close(device);
    throw new VarveError("io", `Take over a descriptor of /dev/fuse: ${errnoName(errno)}`);
  }
  return deviceHandles(device);
}

function deviceHandles(device: number): DeviceHandles {
  const wake = libc.eventfd(0, O_CLOEXEC | O_NONBLOCK);
  if (wake < 0) {
    const errno = lastErrno();
    libc.close(device);
    throw new VarveError("io", `Make an eventfd: ${errnoName(errno)}`);
  }
  return { device, wake };
}

/** Closes both descriptors. Closing the last one of a mount ends its connection: clients then get ENOTCONN. */
export function closeDevice(handles: DeviceHandles): void {
  libc.close(handles.device);
  libc.close(handles.wake);
}

/** Ends the poll of whoever serves these descriptors, now or at its next call, for good. */
export function wakeDevice(handles: DeviceHandles): void {
  const one = new Uint8Array(8);
  one[0] = 1;
  libc.write(handles.wake, one, 8n);
}

function openFailure(errno: number): VarveError {
  const message = `Open /dev/fuse: ${errnoName(errno)}`;
  if (errno === ERRNO.ENOENT || errno === ERRNO.ENODEV || errno === ERRNO.ENXIO) {
    return new VarveError("unsupported", message, { hint: "Load the kernel module: modprobe fuse." });
  }
  if (errno === ERRNO.EACCES || errno === ERRNO.EPERM) {
    return new VarveError("forbidden", message, { hint: "Mounting needs root." });
  }
  return new VarveError("io", message);
}

/** What `receive` found: a request, nothing for now, or the end of the mount. */
export type Received = Uint8Array<ArrayBuffer> | "empty" | "ended";

/** The serving thread's use of the descriptors. */
export class Device {
  readonly #handles: DeviceHandles;
  readonly #request = new Uint8Array(REQUEST_BUFFER_BYTES);
  /** Two `struct pollfd { int fd; short events; short revents; }`. */
  readonly #polled = new Uint8Array(16);

  constructor(handles: DeviceHandles) {
    this.#handles = handles;
    const view = new DataView(this.#polled.buffer);
    view.setInt32(0, handles.device, true);
    view.setInt16(4, POLLIN, true);
    view.setInt32(8, handles.wake, true);
    view.setInt16(12, POLLIN, true);
  }

  /** Resolves when a request may be there or {@linkcode wakeDevice} was called. */
  async wait(): Promise<void> {
    await libc.poll(this.#polled, 2n, -1);
  }

  /** The next request, valid until the next call. */
  receive(): Received {
    for (;;) {
      const length = libc.read(this.#handles.device, this.#request, BigInt(REQUEST_BUFFER_BYTES));
      if (length >= 0) return this.#request.subarray(0, length);
      const errno = lastErrno();
      switch (errno) {
        case ERRNO.EAGAIN:
          return "empty";
        case ERRNO.EINTR:
        case ERRNO.ENOENT: // The request was interrupted before it was read.
          continue;
        case ERRNO.ENODEV:
        case ERRNO.ECONNABORTED:
          return "ended";
        default:
          throw new VarveError("io", `Read a request from /dev/fuse: ${errnoName(errno)}`);
      }
    }
  }

  /** Sends a reply that is ready with its header. Answers whether the kernel still wanted it. */
  send(reply: Uint8Array<ArrayBuffer>): boolean {
    if (libc.write(this.#handles.device, reply, BigInt(reply.length)) >= 0) return true;
    const errno = lastErrno();
    // ENOENT: nobody waits for this reply any more. ENODEV and ECONNABORTED: the next read says so too.
    if (errno === ERRNO.ENOENT || errno === ERRNO.ENODEV || errno === ERRNO.ECONNABORTED) return false;
    throw new VarveError("io", `Write a reply of ${reply.length} bytes to /dev/fuse: ${errnoName(errno)}`);
  }
}

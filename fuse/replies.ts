/**
 * Replies to the kernel, and the requests that still wait for theirs.
 *
 * A reply is encoded into the one shared buffer and sent in one synchronous step, also when its value was
 * waited for. So nothing may come between filling {@linkcode Replies.buffer} and sending it.
 *
 * @module
 */
import type { Awaitable } from "../src/base/awaitable.ts";
import { ReplyBuffer } from "./codec.ts";
import type { Device } from "./device.ts";
import { ERRNO, errnoOfThrown } from "./errno.ts";

/**
 * How long a client that was interrupted still waits for the real answer, in milliseconds. Programs do not
 * expect EINTR from `stat` or `open`, and a signal is often no reason to give up; but a killed one must not hang.
 */
const INTERRUPT_GRACE_MS = 500;

interface Pending {
  interruptTimer?: ReturnType<typeof setTimeout>;
}

/** The sending side of a session. */
export class Replies {
  /** Where `encode` puts the body of a reply. */
  readonly buffer: ReplyBuffer = new ReplyBuffer();
  readonly #device: Pick<Device, "send">;
  readonly #pending = new Map<bigint, Pending>();

  constructor(device: Pick<Device, "send">) {
    this.#device = device;
  }

  /** Whether a value is being waited for. */
  get isAnyPending(): boolean {
    return this.#pending.size > 0;
  }

  /**
   * Sends what a value becomes. `encode` fills the buffer and answers the length of the body, or a negated
   * errno; it is not called when the client was told EINTR meanwhile. `onUnsent` takes back what `encode`
   * handed out.
   */
  answer<T>(
    unique: bigint,
    value: Awaitable<T>,
    encode: (value: T) => number,
    onUnsent: () => void = () => {},
  ): void {
    if (!(value instanceof Promise)) return this.#finish(unique, encode(value), onUnsent);
    const pending: Pending = {};
    this.#pending.set(unique, pending);
    const settle = (finish: () => void) => {
      if (this.#pending.get(unique) !== pending) return;
      clearTimeout(pending.interruptTimer);
      this.#pending.delete(unique);
      try {
        finish();
      } catch (thrown) {
        this.fail(unique, errnoOfThrown(thrown));
      }
    };
    value.then(
      (settled) => settle(() => this.#finish(unique, encode(settled), onUnsent)),
      (thrown) => settle(() => this.fail(unique, errnoOfThrown(thrown))),
    );
  }

  #finish(unique: bigint, length: number, onUnsent: () => void): void {
    if (length < 0) this.fail(unique, -length);
    else if (!this.send(unique, length)) onUnsent();
  }

  /** Sends a body of that many bytes from the buffer. Answers whether the kernel still wanted it. */
  send(unique: bigint, length: number): boolean {
    return this.#device.send(this.buffer.finish(unique, length));
  }

  /** Sends that it worked, with nothing to tell. */
  succeed(unique: bigint): void {
    this.send(unique, 0);
  }

  /** Sends why it did not work; `errno` is positive. */
  fail(unique: bigint, errno: number): void {
    this.#device.send(this.buffer.finishError(unique, errno));
  }

  /**
   * A client that waits got a signal. The kernel says so only after we have read the request; if that is
   * answered already, nothing is left to do.
   */
  interrupt(target: bigint): void {
    const pending = this.#pending.get(target);
    if (pending === undefined || pending.interruptTimer !== undefined) return;
    pending.interruptTimer = setTimeout(() => {
      this.#pending.delete(target);
      this.fail(target, ERRNO.EINTR);
    }, INTERRUPT_GRACE_MS);
  }

  /** Nobody is answered any more. */
  close(): void {
    for (const { interruptTimer } of this.#pending.values()) clearTimeout(interruptTimer);
    this.#pending.clear();
  }
}

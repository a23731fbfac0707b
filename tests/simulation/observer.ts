/**
 * Watches the devices that hosts work on: what is executed, in which order, and with which outcome. The model learns of
 * a change at the moment at which the engine takes it.
 */
import type { BlockDevice, CommandOptions, Extent } from "../../src/base/block_device.ts";
import { checksumOf, type SentRequest, type SimulatedClient } from "./client.ts";
import type { LiveVolume } from "../../src/volume/live_volume.ts";
import { sameBytes } from "./model.ts";
import type { Subject } from "./subject.ts";
import { Violation } from "./violation.ts";

/** A live volume as one connection uses it. */
export class ObservedDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #inner: LiveVolume;
  readonly #client: SimulatedClient;
  readonly #subject: Subject;
  readonly #onViolation: (text: string) => void;

  constructor(
    inner: LiveVolume,
    parts: { client: SimulatedClient; subject: Subject; onViolation: (text: string) => void },
  ) {
    this.#inner = inner;
    this.sizeBytes = inner.sizeBytes;
    this.readOnly = inner.readOnly;
    this.#client = parts.client;
    this.#subject = parts.subject;
    this.#onViolation = parts.onViolation;
  }

  #next(kind: string, offset: number, length: number): SentRequest {
    const request = this.#client.unexecuted.shift();
    const change = request?.change;
    const sent = change === undefined
      ? "nothing"
      : "data" in change
      ? `${change.kind} ${change.offset}+${change.data.length}`
      : "offset" in change
      ? `${change.kind} ${change.offset}+${change.length}`
      : `${change.kind} 0+0`;
    if (request === undefined || sent !== `${kind} ${offset}+${length}`) {
      const violation = `${kind} ${offset}+${length} was executed, but the host sent ${sent}`;
      this.#onViolation(violation);
      throw new Violation(violation);
    }
    return request;
  }

  #capture<T>(request: SentRequest, work: () => T): T {
    const { change } = request;
    const live = this.#inner;
    const before = live.lastSeq;
    if (change.kind === "read") throw new Error("a read changes nothing");
    try {
      return work();
    } finally {
      if (live.lastSeq === before) {
        this.#subject.uncertain = change;
        // On a full disk a flush leaves no record; what was captured before it is promised all the same.
        if (change.kind === "flush") request.seq = before;
      } else {
        this.#subject.model.apply(change, live.lastTimeUs);
        this.#subject.uncertain = undefined;
        request.seq = live.lastSeq;
        if (live.lastSeq !== this.#subject.model.lastSeq) {
          this.#onViolation(
            `${change.kind} was given sequence ${live.lastSeq}, not ${this.#subject.model.lastSeq}`,
          );
        }
      }
    }
  }

  read(offset: number, target: Uint8Array): void {
    const request = this.#next("read", offset, target.length);
    this.#inner.read(offset, target);
    request.checksum = checksumOf(target);
    const found = this.#subject.model.difference(target, offset, this.#subject.model.lastSeq);
    if (found !== undefined) {
      this.#onViolation(`${this.#subject.name}: a live read is wrong: ${found}`);
    }
  }

  write(offset: number, data: Uint8Array, options?: CommandOptions): void {
    const request = this.#next("write", offset, data.length);
    if (!("data" in request.change) || !sameBytes(data, request.change.data)) {
      this.#onViolation(`write ${offset}+${data.length} holds other bytes than the host sent`);
    }
    this.#capture(request, () => this.#inner.write(offset, data, options));
  }

  trim(offset: number, length: number, options?: CommandOptions): void {
    this.#capture(this.#next("trim", offset, length), () => this.#inner.trim(offset, length, options));
  }

  zero(offset: number, length: number, options?: CommandOptions): void {
    this.#capture(this.#next("zero", offset, length), () => this.#inner.zero(offset, length, options));
  }

  prepare(offset: number, length: number): Promise<void> | undefined {
    return this.#inner.prepare(offset, length)?.catch((thrown) => {
      // The server refuses the command without giving it to the device.
      this.#client.unexecuted.shift();
      throw thrown;
    });
  }

  flush(options?: CommandOptions): Promise<void> {
    return this.#capture(this.#next("flush", 0, 0), () => this.#inner.flush(options));
  }

  commit(): void {
    this.#inner.commit();
  }

  pressure(): Promise<void> | undefined {
    return this.#inner.pressure();
  }

  sync(): Promise<void> {
    return this.#inner.sync();
  }

  extents(offset: number, length: number): Extent[] {
    return this.#inner.extents(offset, length);
  }
}

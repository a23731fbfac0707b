/**
 * Watches the devices that hosts work on: what is executed, in which order, and with which outcome. The model learns of
 * a change at the moment at which the engine takes it.
 */
import type { BlockDevice, CommandOptions, Extent } from "../../src/base/block_device.ts";
import { checksumOf, type SentRequest, type SimulatedClient } from "./client.ts";
import type { LiveVolume } from "../../src/volume/live_volume.ts";
import { noteOwnCommands, notePassed, settleLive } from "./gaps.ts";
import { NOW, sameBytes } from "./model.ts";
import type { Subject } from "./subject.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

/** A live volume as one connection uses it. */
export class ObservedDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #inner: LiveVolume;
  readonly #client: SimulatedClient;
  readonly #subject: Subject;
  readonly #world: World;
  readonly #life: number;

  constructor(inner: LiveVolume, parts: { client: SimulatedClient; subject: Subject; world: World }) {
    this.#inner = inner;
    this.#world = parts.world;
    this.#life = parts.world.life;
    this.sizeBytes = inner.sizeBytes;
    this.readOnly = inner.readOnly;
    this.#client = parts.client;
    this.#subject = parts.subject;
  }

  #onViolation(text: string): void {
    this.#world.noteViolation(text, this.#life);
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
    const subject = this.#subject;
    const { model } = subject;
    if (change.kind === "read") throw new Error("a read changes nothing");
    noteOwnCommands(this.#world, subject, live.lastSeq);
    const before = { seq: live.lastSeq, order: model.order };
    let isRefused = true;
    try {
      const result = work();
      isRefused = false;
      return result;
    } finally {
      if (live.lastSeq !== before.seq) {
        model.apply(change, live.lastTimeUs);
        subject.uncertain = undefined;
        request.seq = live.lastSeq;
        if (live.lastSeq !== model.lastSeq) {
          this.#onViolation(`${change.kind} was given sequence ${live.lastSeq}, not ${model.lastSeq}`);
        }
      } else if (change.kind === "flush") {
        // On a full disk a flush leaves no record; what was captured before it is promised all the same.
        request.seq = before.seq;
      } else if (isRefused) {
        subject.uncertain = change;
        model.pass(change);
        settleLive(this.#world, subject, live, before.order);
      } else notePassed(this.#world, subject, live, change);
      request.order = model.order;
    }
  }

  read(offset: number, target: Uint8Array): void {
    const request = this.#next("read", offset, target.length);
    this.#inner.read(offset, target);
    request.checksum = checksumOf(target);
    const found = this.#subject.model.difference(target, offset, NOW);
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

  held(): Promise<void> | undefined {
    return this.#inner.held();
  }

  pressure(): Promise<void> | undefined {
    return this.#inner.pressure();
  }

  sync(): Promise<void> {
    return this.#inner.sync();
  }

  extents(offset: number, length: number, max?: number): Extent[] {
    return this.#inner.extents(offset, length, max);
  }
}

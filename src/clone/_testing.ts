/**
 * A clone on a disk that loses its power, for tests of this room.
 *
 * @module
 */
import assert from "node:assert/strict";
import { BLOCK_BYTES, type BlockDevice, type Extent } from "../base/block_device.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import { SeededRandom } from "../base/seeded_random.ts";
import type { Scheduler } from "../base/turns.ts";
import { SimulatedDisk } from "../disk/mod.ts";
import { CloneDevice } from "./clone_device.ts";
import { Scratch } from "./scratch.ts";

/** Where the clone lies on the simulated disk. */
export const DIRECTORY = "/clone";

/** Runs what waits for its time whenever nothing else can go on. */
class EagerScheduler implements Scheduler {
  #waiting: (() => void)[] = [];

  ticksMs(): number {
    return 0;
  }

  after(_delayMs: number, work: () => void) {
    this.#waiting.push(work);
    return { cancel: () => void (this.#waiting = this.#waiting.filter((each) => each !== work)) };
  }

  /** Runs what waits now. */
  run(): void {
    for (const work of this.#waiting.splice(0)) work();
  }
}

/** Lets microtasks run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

/** A device that may have holes; with `max` it tells no more than so many extents, as any may. */
function baseOf(content: Uint8Array): BlockDevice {
  const device = new MemoryDevice(content.length, { content, readOnly: true });
  const zeroes = new Uint8Array(BLOCK_BYTES);
  const sparse = new MemoryDevice(content.length);
  for (let at = 0; at < content.length; at += BLOCK_BYTES) {
    const block = content.subarray(at, at + BLOCK_BYTES);
    if (block.some((byte) => byte !== zeroes[0])) sparse.write(at, block);
  }
  return Object.assign(Object.create(device), {
    read: (offset: number, target: Uint8Array) => device.read(offset, target),
    extents: (offset: number, length: number, max = Infinity): Extent[] =>
      sparse.extents(offset, length).slice(0, max),
  });
}

/** A clone that a test may kill, cut off and open again. */
export class TestClone implements Disposable {
  readonly scheduler = new EagerScheduler();
  readonly disk: SimulatedDisk;
  readonly base: BlockDevice;
  /** Bytes that were granted. */
  grantedBytes = 0;
  /** Whether space is refused. */
  isTight = false;
  readonly #budgetBytes: number;
  #scratch: Scratch | undefined;

  constructor(seed: number, content: Uint8Array, budgetBytes: number) {
    this.disk = new SimulatedDisk({ random: new SeededRandom(seed), scheduler: this.scheduler });
    this.disk.makeDirectory(DIRECTORY);
    this.base = baseOf(content);
    this.#budgetBytes = budgetBytes;
  }

  get scratch(): Scratch {
    assert(this.#scratch !== undefined, "the clone is not open");
    return this.#scratch;
  }

  get device(): CloneDevice {
    return new CloneDevice(this.base, this.scratch);
  }

  #options() {
    return {
      disk: this.disk,
      directory: DIRECTORY,
      sizeBytes: this.base.sizeBytes,
      budgetBytes: this.#budgetBytes,
      // A few flushes come to so much, so that all ways are gone.
      rewriteBytes: 400,
      grant: (bytes: number) => {
        if (this.isTight) throw new Error("no space is granted");
        this.grantedBytes += bytes;
      },
    };
  }

  async create(): Promise<this> {
    this.#scratch = await this.drive(Scratch.create(this.#options()));
    await this.drive(this.disk.syncDirectory("/"));
    return this;
  }

  /** Opens it again, after a kill or a power cut. */
  async open(): Promise<void> {
    this.#scratch = undefined;
    this.disk.restorePower();
    this.#scratch = await this.drive(Scratch.open(this.#options()));
  }

  /** Lets time pass until the work has ended; without power it never does, and that is an error. */
  async drive<T>(work: Promise<T>): Promise<T> {
    let isOver = false;
    work.then(() => isOver = true, () => isOver = true);
    for (let turn = 0; turn < 1000; turn++) {
      await settle();
      if (isOver) return await work;
      if (!this.disk.powered) throw new Error("the power is cut");
      this.scheduler.run();
    }
    throw new Error("the work never ends");
  }

  /** The whole content. */
  content(): Uint8Array {
    const bytes = new Uint8Array(this.base.sizeBytes);
    this.device.read(0, bytes);
    return bytes;
  }

  [Symbol.dispose](): void {
    this.disk[Symbol.dispose]();
  }
}

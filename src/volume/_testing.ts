/**
 * A volume on a disk in memory, for tests of this room.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import path from "node:path";
import type { Clock } from "../base/clock.ts";
import { VarveError } from "../base/errors.ts";
import { type Scheduler, systemScheduler } from "../base/turns.ts";
import type { Gap } from "../catalog/gaps.ts";
import type { MarkRow, VolumeRow } from "../catalog/catalog.ts";
import { isRetained } from "../catalog/moments.ts";
import { type DiskFile, type DiskOpenOptions, MemoryDisk, type SpaceGuard } from "../disk/mod.ts";
import type { JournalText } from "./journal_text.ts";
import { prepareVolume } from "./prepare_volume.ts";
import { Volume } from "./volume.ts";

/** A clock that tests move. */
export class TestClock implements Clock {
  /** The present, in microseconds. */
  us = Date.parse("2026-01-01T00:00:00Z") * 1000;

  nowUs(): number {
    return this.us;
  }
}

/** A random source with a seed: xorshift32, as Marsaglia published it. */
export class TestRandom {
  #state: number;

  /** Begins at `seed`. */
  constructor(seed: number) {
    this.#state = (seed | 0) || 1;
  }

  /** A whole number from 0 up to, not including, `limit`. */
  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  /** Random bytes. */
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/** A disk on which segments find no space while `fullFrom` is set: reservations of more than so many bytes fail. */
export class TightDisk extends MemoryDisk {
  /** Largest reservation that finds space, in bytes. */
  fullFrom: number | undefined;

  override open(place: string, options?: DiskOpenOptions): DiskFile {
    const file = super.open(place, options);
    if (!place.endsWith(".seg")) return file;
    const reserve = file.reserve.bind(file);
    file.reserve = (offset, length) => {
      if (this.fullFrom !== undefined && length > this.fullFrom) {
        throw new VarveError("no-space", `reserve ${length} bytes for ${place}: the disk is full`);
      }
      reserve(offset, length);
    };
    return file;
  }
}

/** What is left of a disk that has space for texts alone. */
export const ALMOST_FULL = 64 << 10;

/** A volume whose journal and primary are in memory; its recovery map lies in a folder of the machine. */
export class TestVolume implements AsyncDisposable {
  readonly disk: MemoryDisk;
  /** Turns; default: the event loop. */
  scheduler: Scheduler = systemScheduler;
  /** Whether the policy lets hosts write past a full history. */
  passthrough = false;
  /** Gaps as they were told of, each when it began and when it had ended. */
  readonly gaps: Gap[] = [];
  readonly clock = new TestClock();
  readonly texts: JournalText[] = [];
  readonly failures: string[] = [];
  readonly marks: MarkRow[] = [];
  /** Sequences that prunes must keep. */
  readonly held = new Set<number>();
  /** Keeps watch over the space of the next opening. */
  guard: ((primaryPath: string) => SpaceGuard) | undefined;
  /** Rate at which an adopted disk is copied; set before it is opened. */
  baselineBytesPerSecond: number = 2 ** 40;
  /** Records that the recovery map learns of at once; set before it is opened. */
  batchRecords: number | undefined;
  row: VolumeRow;
  readonly directory: string;
  readonly #segmentBytes: number;
  #volume: Volume | undefined;

  constructor(sizeBytes: number, segmentBytes = 1 << 20, disk = new MemoryDisk()) {
    this.disk = disk;
    this.#segmentBytes = segmentBytes;
    this.directory = Deno.makeTempDirSync({ prefix: "varve-volume-" });
    this.row = {
      id: "00112233445566778899aabbccddeeff",
      name: "test",
      sizeBytes,
      primaryPath: path.join(this.directory, "primary.img"),
      primaryManaged: true,
      createdUs: this.clock.us,
      policy: "{}",
    };
  }

  /** The open volume. */
  get volume(): Volume {
    assert(this.#volume !== undefined, "the volume is not open");
    return this.#volume;
  }

  /** Puts a primary on the disk and adopts it; the copy does not begin by itself. */
  async adopt(content: Uint8Array): Promise<Volume> {
    const file = this.disk.open(this.row.primaryPath, { mode: "create" });
    file.write(0, content);
    await file.sync();
    await this.disk.syncDirectory(this.directory);
    await prepareVolume(this.row, { disk: this.disk, directory: this.directory, adopt: true });
    return await this.open();
  }

  /** Creates the volume, or adopts the primary that a test has put on the disk and copies it. */
  async create(options: { adopt: boolean } = { adopt: false }): Promise<Volume> {
    await prepareVolume(this.row, { disk: this.disk, directory: this.directory, ...options });
    await this.open();
    await this.volume.completeBaseline();
    return this.volume;
  }

  /** Opens what is there. */
  async open(): Promise<Volume> {
    this.#volume = await Volume.open(this.row, {
      disk: this.disk,
      clock: this.clock,
      scheduler: this.scheduler,
      passthrough: () => this.passthrough,
      held: () => this.held,
      onGap: (gap) => this.gaps.push(gap),
      segmentBytes: this.#segmentBytes,
      batchRecords: this.batchRecords,
      baselineBytesPerSecond: this.baselineBytesPerSecond,
      directory: this.directory,
      ...(this.guard === undefined ? {} : { guard: this.guard }),
      describe: () => ({ volume: this.row, marks: this.marks }),
      onThinned: (retained) => {
        const kept = this.marks.filter(({ seq }) => isRetained(retained, seq));
        this.marks.splice(0, Infinity, ...kept);
      },
      onText: (text) => this.texts.push(text),
      onFailure: (error) => this.failures.push(error.message),
    });
    return this.#volume;
  }

  /** Cuts the power and waits until the dead volume has let go of its recovery map. */
  async cutPower(survives?: (place: string) => boolean): Promise<void> {
    this.disk.cutPower(survives);
    await this.volume.close().catch(() => {});
    this.#volume = undefined;
  }

  /** Closes the volume in order. */
  async close(): Promise<void> {
    await this.#volume?.close();
    this.#volume = undefined;
  }

  /** All of the primary, as its storage has it. */
  primaryContent(): Uint8Array {
    const file = this.disk.open(this.row.primaryPath);
    const bytes = new Uint8Array(this.row.sizeBytes);
    file.read(0, bytes);
    file.close();
    return bytes;
  }

  /** All of the volume as of a sequence. */
  async contentAt(seq: number): Promise<Uint8Array> {
    const view = await this.volume.view(seq);
    const bytes = new Uint8Array(view.sizeBytes);
    view.read(0, bytes);
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => {});
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** Throws, naming the first difference, unless both are the same bytes. A diff of whole disks would take minutes. */
export function assertBytes(actual: Uint8Array, expected: Uint8Array | undefined, message: string): void {
  assert(expected !== undefined, `${message}: the model holds nothing`);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  assert(
    at < 0 && actual.length === expected.length,
    `${message}: byte ${at} is ${actual[at]}, not ${
      expected[at]
    }; ${actual.length} bytes, not ${expected.length}`,
  );
}

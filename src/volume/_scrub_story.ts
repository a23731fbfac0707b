/**
 * A history to scrub, with a model of what each of its moments holds: for tests of this room.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { systemScheduler } from "../base/turns.ts";
import type { PointInfo, RetentionPolicy } from "../engine.ts";
import { parseSegmentFileName, segmentFileName } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { listPoints } from "../timeline/points.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";
import { type ScrubOrder, type ScrubOutcome, scrubVolume } from "./scrub.ts";

const HOUR_US = 3_600_000_000;
const REGION_BYTES = 16 * 1024 * 1024;
/** The policy of every story. */
export const POLICY: RetentionPolicy = { continuous: "24h", tiers: [{ every: "3h", for: "30d" }] };

/** A history with a model of it: of the blocks that it ever touches, the content at each sequence. */
export class Story {
  readonly test: TestVolume;
  readonly random: TestRandom;
  readonly blocks: readonly number[];
  readonly past: Map<number, Uint8Array>[] = [];
  readonly #model = new Map<number, Uint8Array>();

  constructor(test: TestVolume, random: TestRandom, blocks: readonly number[]) {
    this.test = test;
    this.random = random;
    this.blocks = blocks;
    for (const block of blocks) this.#model.set(block, new Uint8Array(BLOCK_BYTES));
    this.remember();
  }

  /** The present is what the newest sequence shows. */
  remember(): void {
    this.past.push(new Map(this.#model));
  }

  #change(offset: number, length: number, data?: Uint8Array): void {
    for (const [block, before] of this.#model) {
      const from = Math.max(offset, block * BLOCK_BYTES);
      const end = Math.min(offset + length, (block + 1) * BLOCK_BYTES);
      if (from >= end) continue;
      const after = before.slice();
      const at = from - block * BLOCK_BYTES;
      if (data === undefined) after.fill(0, at, at + end - from);
      else after.set(data.subarray(from - offset, end - offset), at);
      this.#model.set(block, after);
    }
  }

  /** Random commands on the blocks of the story. */
  async tell(steps: number): Promise<void> {
    const { test, random, blocks } = this;
    const { live } = test.volume;
    for (let step = 0; step < steps; step++) {
      test.clock.us += random.below(HOUR_US);
      const block = blocks[random.below(blocks.length)] ?? 0;
      const offset = block * BLOCK_BYTES + (random.below(3) === 0 ? random.below(512) : 0);
      let end = Math.min(test.row.sizeBytes, offset + 1 + random.below(3 * BLOCK_BYTES));
      while (!blocks.includes(Math.floor((end - 1) / BLOCK_BYTES))) end -= (end - 1) % BLOCK_BYTES + 1;
      const length = end - offset;
      switch (random.below(9)) {
        case 0:
          live.zero(offset, length);
          this.#change(offset, length);
          break;
        case 1:
          live.trim(offset, length);
          this.#change(offset, length);
          break;
        case 2:
          await live.flush();
          break;
        case 3: {
          const name = `m${live.lastSeq + 1}`;
          const { told, ...moment } = await live.mark(JSON.stringify({ type: "mark", name, pinned: false }));
          told();
          test.marks.push({ name, ...moment, pinned: false, note: undefined });
          break;
        }
        default: {
          const data = random.bytes(length);
          live.write(offset, data);
          this.#change(offset, length, data);
        }
      }
      this.remember();
    }
  }

  /** Writes a whole block. */
  write(block: number, fill: number): void {
    const data = new Uint8Array(BLOCK_BYTES).fill(fill);
    this.test.volume.live.write(block * BLOCK_BYTES, data);
    this.#change(block * BLOCK_BYTES, data.length, data);
    this.remember();
  }

  /** Zeroes everything in one command: where the volume has whole regions, a hole that is in no region's rows. */
  zeroAll(): void {
    this.test.volume.live.zero(0, this.test.row.sizeBytes);
    this.#change(0, this.test.row.sizeBytes);
    this.remember();
  }

  /** Reads every block of every moment: the sequences of which something cannot be read. Nothing may be read wrong. */
  async failing(
    message: string,
    seqs: Iterable<number> = this.past.keys(),
    codes: readonly string[] = ["damaged"],
  ): Promise<Set<number>> {
    const { volume } = this.test;
    const failing = new Set<number>();
    volume.forgetRegions();
    for (const seq of seqs) {
      const view = await volume.view(seq);
      for (const block of this.blocks) {
        const found = new Uint8Array(Math.min(BLOCK_BYTES, view.sizeBytes - block * BLOCK_BYTES));
        try {
          view.read(block * BLOCK_BYTES, found);
        } catch (thrown) {
          assert(thrown instanceof VarveError && codes.includes(thrown.code), `${message}: ${thrown}`);
          failing.add(seq);
          continue;
        }
        const expected = this.past[seq]?.get(block)?.subarray(0, found.length);
        // Byte by byte only to name the difference.
        if (expected !== undefined && Buffer.compare(found, expected) === 0) continue;
        assertBytes(found, expected, `${message}: block ${block} at ${seq}`);
      }
    }
    return failing;
  }

  scrub(options: { signal?: AbortSignal; order?: Partial<ScrubOrder>; onProgress?: () => void } = {}) {
    const { volume, disk, directory, row, marks, clock } = this.test;
    return scrubVolume({
      directory,
      volumeId: row.id,
      end: volume.live.position.place,
      marks,
      policy: POLICY,
      nowUs: clock.us,
      ...options.order,
    }, {
      disk,
      scheduler: systemScheduler,
      sliceMs: 2,
      signal: options.signal ?? new AbortController().signal,
      onProgress: options.onProgress ?? (() => {}),
    });
  }

  points(): PointInfo[] {
    const { volume, marks, clock } = this.test;
    const points = listPoints({
      moments: volume.moments.between(0, Number.MAX_SAFE_INTEGER),
      marks,
      policy: POLICY,
      nowUs: clock.us,
      kinds: new Set(["created", "mark", "flush", "tier"]),
    });
    return [...points].filter((point) => point !== undefined);
  }

  place(segment: number): string {
    return `${this.test.directory}/${VOLUME_FILES.segments}/${segmentFileName(segment)}`;
  }

  /** Bytes of the journal that are to be proved, by segment. */
  segments(): { segment: number; bytes: number }[] {
    const { position } = this.test.volume.live;
    return this.test.disk.list(`${this.test.directory}/${VOLUME_FILES.segments}`).flatMap((name) => {
      const segment = parseSegmentFileName(name);
      if (segment === undefined) return [];
      const file = this.test.disk.open(this.place(segment));
      const bytes = segment === position.place.segment ? position.place.offset : file.sizeBytes();
      file.close();
      return [{ segment, bytes }];
    });
  }

  /** Changes one byte; doing it again takes it back. */
  flip(segment: number, offset: number, mask: number): void {
    const file = this.test.disk.open(this.place(segment), { mode: "write" });
    const byte = new Uint8Array(1);
    file.read(offset, byte);
    file.write(offset, Uint8Array.of((byte[0] ?? 0) ^ mask));
    file.close();
  }
}

/** Spans as a set of sequences, up to the newest. */
export function seqsOf(outcome: ScrubOutcome): Set<number> {
  const seqs = new Set<number>();
  for (const { fromSeq, toSeq } of outcome.damagedSeqs) {
    for (let seq = fromSeq; seq <= toSeq; seq++) seqs.add(seq);
  }
  return seqs;
}

/** What a scrub told is what readers meet. */
export function assertTrue(story: Story, outcome: ScrubOutcome, failing: Set<number>, message: string): void {
  assert.deepEqual([...seqsOf(outcome)], [...failing].sort((a, b) => a - b), `${message}: damaged moments`);
  const points = story.points().filter((point) => failing.has(point.seq));
  assert.deepEqual(outcome.points.map((point) => point.seq), points.map((point) => point.seq), message);
  assert.deepEqual(outcome.points, points, message);
  assert.equal(outcome.damagedPoints, points.length, message);
  assert.equal(outcome.newestDamaged, failing.has(story.test.volume.lastSeq), message);
  assert.equal(outcome.places.every((place) => place.harmless), failing.size === 0, message);
}

/** A new volume and its story. */
export async function begin(
  seed: number,
  { sizeBytes, blocks, segmentBytes = 60_000 }: {
    sizeBytes: number;
    blocks: number[];
    segmentBytes?: number;
  },
) {
  const test = new TestVolume(sizeBytes, segmentBytes);
  await test.create();
  return { test, story: new Story(test, new TestRandom(seed), blocks) };
}

/** One region, every block in use. */
export const SMALL = { sizeBytes: 24 * BLOCK_BYTES - 512, blocks: Array.from({ length: 24 }, (_, i) => i) };
/** Three regions, of which a few blocks are in use. */
export const WIDE = {
  sizeBytes: 3 * REGION_BYTES,
  blocks: [0, 1, 2, 3, 4094, 4095, 4096, 4097, 9000, 12_286, 12_287],
};

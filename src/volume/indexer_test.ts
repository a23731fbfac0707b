import assert from "node:assert/strict";
import path from "node:path";
import { MOMENT_KINDS } from "../catalog/packing.ts";
import { RecoveryMap } from "../catalog/recovery_map.ts";
import { inTurns } from "../base/turns.ts";
import type { SealedSegment } from "../journal/mod.ts";
import { type IndexOrder, indexOrder } from "./capture_hands.ts";
import { Indexer, type IndexerHost, type ScanPosition } from "./indexer.ts";
import { Told } from "./told.ts";

const BATCH_RECORDS = 7;

/** A journal that only counts: ten commands a segment, each of 100 bytes. */
class Journal implements IndexerHost {
  readonly hands = {
    index: (order: IndexOrder) => inTurns(indexOrder(order, this.map)),
  };
  readonly batchRecords = BATCH_RECORDS;
  readonly told: Told;
  readonly #folder = Deno.makeTempDirSync({ prefix: "varve-indexer-" });
  readonly map = new RecoveryMap(path.join(this.#folder, "map.sqlite"));
  readonly indexer: Indexer;
  syncs = 0;
  /** What the next syncs fail with. */
  failure: Error | undefined;
  durableSeq = 0;
  #seq = 0;
  #finished: SealedSegment[] = [];

  constructor() {
    this.told = new Told(this.map, 0);
    this.indexer = new Indexer(this.map, this);
  }

  append(): void {
    const seq = ++this.#seq;
    if (seq % 10 === 1 && seq > 1) this.finish();
    const { segment, offset } = placeOf(seq - 1);
    this.indexer.add(
      { seq, timeUs: seq * 1000, kind: MOMENT_KINDS.change },
      [{ seq, firstBlock: seq, blockCount: 1, segment, recordOffset: offset, payloadBlock: 0 }],
    );
  }

  finish(): void {
    const segment = Math.ceil((this.#seq - 1) / 10);
    this.#finished.push({ segment, bytes: 1000, firstSeq: segment * 10 - 9, lastSeq: segment * 10 });
  }

  makeDurable(): Promise<void> {
    this.syncs++;
    return this.failure === undefined ? Promise.resolve() : Promise.reject(this.failure);
  }

  position(): ScanPosition {
    return { seq: this.#seq, baseline: 0, place: placeOf(this.#seq) };
  }

  durable(): ScanPosition {
    return { seq: this.durableSeq, baseline: 0, place: placeOf(this.durableSeq) };
  }

  takeFinished(): SealedSegment[] {
    return this.#finished.splice(0);
  }

  /** What the map says: newest sequence, where to begin, last sequences of the segments listed. */
  get indexed(): { indexed: number; scan: number; segments: number[] } {
    return {
      indexed: this.map.getState("indexed_seq", 0),
      scan: this.map.getState("scan_seq", 0),
      segments: this.map.statement("SELECT last_seq FROM segments ORDER BY segment").all().map((row) =>
        Number(row["last_seq"])
      ),
    };
  }

  [Symbol.dispose](): void {
    this.map.close();
    Deno.removeSync(this.#folder, { recursive: true });
  }
}

function placeOf(seq: number): ScanPosition["place"] {
  return { segment: Math.floor(seq / 10) + 1, offset: 64 + seq % 10 * 100 };
}

Deno.test("Indexer indexes the oldest batch alone, with the segments and the position that belong to it", async () => {
  using journal = new Journal();
  journal.durableSeq = 1000;
  for (let n = 0; n < 32; n++) journal.append();
  assert.equal(journal.indexer.pendingRecords, 32);
  await journal.indexer.upTo(1);
  assert.deepEqual(journal.indexed, { indexed: 7, scan: 7, segments: [] });
  await journal.indexer.upTo(15);
  assert.deepEqual(journal.indexed, { indexed: 21, scan: 21, segments: [10, 20] });
  assert.equal(journal.indexer.pendingRecords, 11);
  await journal.indexer.upTo(32);
  assert.deepEqual(journal.indexed, { indexed: 32, scan: 32, segments: [10, 20, 30] });
  assert.equal(journal.indexer.pendingRecords, 0);
  assert.equal(journal.syncs, 1, "one sync covers every batch that was there");
});

Deno.test("Indexer keeps the start at what is durable in the primary", async () => {
  using journal = new Journal();
  journal.durableSeq = 9;
  for (let n = 0; n < 20; n++) journal.append();
  await journal.indexer.upTo(20);
  assert.deepEqual(journal.indexed, { indexed: 20, scan: 9, segments: [10] });
});

Deno.test("Indexer.settle() lists a segment that was finished after the last batch", async () => {
  using journal = new Journal();
  journal.durableSeq = 1000;
  for (let n = 0; n < 20; n++) journal.append();
  await journal.indexer.upTo(20);
  journal.finish();
  await journal.indexer.settle();
  assert.deepEqual(journal.indexed.segments, [10, 20]);
});

Deno.test("Indexer loses nothing when a sync fails, and indexes it in order later", async () => {
  using journal = new Journal();
  for (let n = 0; n < 18; n++) journal.append();
  journal.failure = new Error("the device is gone");
  await assert.rejects(journal.indexer.upTo(18), /the device is gone/);
  assert.deepEqual(journal.indexed, { indexed: 0, scan: 0, segments: [] });
  assert.equal(journal.indexer.pendingRecords, 18);
  journal.failure = undefined;
  for (let n = 0; n < 5; n++) journal.append();
  await journal.indexer.upTo(23);
  assert.deepEqual(journal.indexed, { indexed: 23, scan: 0, segments: [10, 20] });
});

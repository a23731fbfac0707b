import assert from "node:assert/strict";
import type { MapExtent } from "../catalog/recovery_map.ts";
import type { JournalWriter } from "../journal/mod.ts";
import { Durability } from "./durability.ts";
import { EXTENT_ROW, NumberRows } from "./number_rows.ts";
import type { Primary } from "./primary.ts";

/** A step that waits until the test lets it end. */
class Gate {
  readonly #waiting: PromiseWithResolvers<void>[] = [];

  /** Waits for `open`, or `fail`. */
  pass(): Promise<void> {
    const step = Promise.withResolvers<void>();
    this.#waiting.push(step);
    return step.promise;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  async open(): Promise<void> {
    this.#waiting.shift()?.resolve();
    await settle();
  }
}

/** Storage whose steps the test ends one by one, and a journal of single blocks. */
class Storage {
  readonly journal = new Gate();
  readonly primary = new Gate();
  readonly apply = new Gate();
  /** Sequences that the primary was given, an order each. */
  readonly applied: number[][] = [];
  readonly durability: Durability;
  #seq = 0;

  constructor() {
    this.durability = new Durability({
      journal: { sync: () => this.journal.pass() } as unknown as JournalWriter,
      primary: { sizeBytes: 1 << 20, sync: () => this.primary.pass() } as unknown as Primary,
      hands: {
        apply: (extents) => {
          this.applied.push([...NumberRows.of<MapExtent>(EXTENT_ROW, extents)].map(({ seq }) => seq));
          return this.apply.pass();
        },
      },
      position: () => ({ seq: this.#seq, baseline: 0, place: { segment: 1, offset: this.#seq } }),
      relieved: (work) => work(),
    });
  }

  /** Captures so many writes of a block each. */
  capture(count = 1): void {
    for (let i = 0; i < count; i++) {
      const seq = ++this.#seq;
      const extent = { seq, firstBlock: seq, blockCount: 1, segment: 1, recordOffset: seq, payloadBlock: 0 };
      this.durability.take([extent], 4096);
    }
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

/** Whether a promise has been fulfilled by now. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  promise.then(() => done = true, () => {});
  await settle();
  return done;
}

Deno.test("Durability brings to the primary what the journal's sync covers, and nothing captured during it", async () => {
  const storage = new Storage();
  storage.capture(2);
  const first = storage.durability.reach("apply");
  await settle();
  storage.capture();
  assert.deepEqual(storage.applied, []);
  await storage.journal.open();
  assert.deepEqual(storage.applied, [[1, 2]]);
  await storage.apply.open();
  assert(await isDone(first));
  assert.equal(storage.durability.find(1), undefined);
  assert.equal(storage.durability.find(3)?.seq, 3, "it is still read from the journal");
});

Deno.test("Durability syncs the journal again while the primary is given what the sync before covered", async () => {
  const storage = new Storage();
  storage.capture();
  const first = storage.durability.reach("apply");
  await settle();
  await storage.journal.open();
  storage.capture();
  const second = storage.durability.reach("journal");
  const third = storage.durability.reach("apply");
  await settle();
  assert.equal(storage.journal.waiting, 1);
  await storage.journal.open();
  assert(await isDone(second));
  assert.equal(storage.apply.waiting, 1, "orders come one after the other");
  await storage.apply.open();
  assert(await isDone(first));
  assert(!await isDone(third));
  await storage.apply.open();
  assert(await isDone(third));
  assert.deepEqual(storage.applied, [[1], [2]]);
});

Deno.test("Durability calls durable what the primary was given before its sync began", async () => {
  const storage = new Storage();
  storage.capture();
  const synced = storage.durability.reach("primary");
  await settle();
  await storage.journal.open();
  await storage.apply.open();
  assert.equal(storage.primary.waiting, 1);
  storage.capture();
  void storage.durability.reach("apply");
  await settle();
  await storage.journal.open();
  await storage.apply.open();
  await storage.primary.open();
  assert(await isDone(synced));
  assert.equal(storage.durability.durable.seq, 1);
  assert.equal(storage.durability.undurableBytes, 4096);
});

Deno.test("Durability.drainedTo() resolves as soon as few enough blocks wait", async () => {
  const storage = new Storage();
  storage.capture(10);
  void storage.durability.reach("apply");
  await settle();
  storage.capture(3);
  const drained = storage.durability.drainedTo(3);
  const more = storage.durability.drainedTo(2);
  await settle();
  await storage.journal.open();
  assert(!await isDone(drained));
  await storage.apply.open();
  assert(await isDone(drained), "three blocks wait");
  assert(!await isDone(more));
  await storage.journal.open();
  await storage.apply.open();
  assert(await isDone(more));
});

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { systemScheduler } from "../base/turns.ts";
import { RECORD_HEADER_BYTES } from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { begin, POLICY, seqsOf, SMALL, WIDE } from "./_scrub_story.ts";
import { planPrune, prune } from "./prune.ts";
import { scrubVolume } from "./scrub.ts";

Deno.test("a flipped byte in a packed row of the map: its look-ups throw, and scrub points to rebuild", async () => {
  const { test, story } = await begin(5, WIDE);
  await using _ = test;
  for (let batch = 0; batch < 12; batch++) {
    await story.tell(30);
    await test.volume.settle();
  }
  // More changes of one region than a keyframe waits for.
  for (let i = 0; i < 1500; i++) {
    story.write(0, i);
  }
  await test.volume.settle();
  await story.tell(20);
  await test.volume.settle();
  assert.equal((await story.scrub()).damagedPlaces, 0);
  const rows = test.volume.map.database.prepare("SELECT id, kind, packed FROM regions ORDER BY id").all();
  assert(rows.some((row) => row["kind"] === 1), "there is a keyframe");
  // Besides those where histories change, a moment now and then.
  const seqs = story.past.keys().toArray().filter((seq) => seq < 400 || seq % 50 === 0 || seq > 1850);
  for (const row of rows.filter((_, i) => i % 2 === 0)) {
    const packed = row["packed"] as Uint8Array;
    const wrong = packed.slice();
    const at = story.random.below(packed.length);
    wrong[at] = (wrong[at] ?? 0) ^ 64;
    const write = test.volume.map.database.prepare("UPDATE regions SET packed = ? WHERE id = ?");
    write.run(wrong, row["id"] ?? null);
    const outcome = await story.scrub();
    const message = `byte ${at} of row ${row["id"]}, kind ${row["kind"]}`;
    const failing = await story.failing(message, seqs);
    assert(failing.size > 0, message);
    const told = seqsOf(outcome);
    assert.deepEqual(seqs.filter((seq) => told.has(seq)), [...failing], message);
    assert.equal(outcome.places[0]?.file, "map.sqlite", message);
    assert.match(outcome.hint ?? "", /varve rebuild/);
    write.run(packed, row["id"] ?? null);
  }

  const moments = test.volume.map.database.prepare("SELECT first_seq, last_seq, packed FROM moments").get();
  const packed = (moments?.["packed"] as Uint8Array).slice();
  packed[10] = (packed[10] ?? 0) ^ 1;
  test.volume.map.database.prepare("UPDATE moments SET packed = ? WHERE first_seq = ?")
    .run(packed, Number(moments?.["first_seq"]));
  assert.throws(() => test.volume.moments.atSeq(1), { code: "damaged" });
  const outcome = await story.scrub();
  assert.deepEqual(outcome.damagedSeqs, [
    { fromSeq: Number(moments?.["first_seq"]), toSeq: Number(moments?.["last_seq"]) },
  ]);
  assert.match(outcome.hint ?? "", /varve rebuild/);
});

Deno.test("damaged rows of the map keep nobody from writing, indexing, opening and reading the rest", async () => {
  const { test, story } = await begin(7, WIDE);
  await using _ = test;
  await story.tell(60);
  await test.volume.settle();
  test.volume.map.database.exec("UPDATE regions SET packed = zeroblob(length(packed)) WHERE region = 0");
  test.volume.map.database.exec("UPDATE moments SET packed = zeroblob(length(packed)) WHERE first_seq = 0");
  const before = test.volume.lastSeq;
  for (let round = 0; round < 3; round++) {
    // More than a keyframe waits for, in each of two regions.
    for (let i = 0; i < 1500; i++) story.write(i % 2 === 0 ? 0 : 9000, i + round);
    await test.volume.settle();
    await test.close();
    await test.open();
  }
  assert.deepEqual(test.failures, []);
  assert.equal(test.volume.moments.newest()?.seq, test.volume.lastSeq);
  assert.equal(test.volume.moments.oldest()?.seq, 0);
  assert.equal(test.volume.moments.atSeq(before + 4400).found?.seq, before + 4400);
  const seqs = [0, 30, before, before + 100, before + 4500];
  const failing = await story.failing("damaged rows", seqs);
  assert.deepEqual([...failing], seqs.slice(failing.has(0) ? 0 : 1));
  // The other regions are whole.
  const view = await test.volume.view(before + 4500);
  const found = new Uint8Array(4096);
  view.read(9000 * 4096, found);
  assert.deepEqual(found, story.past[before + 4500]?.get(9000));
  const outcome = await story.scrub();
  assert(outcome.places.length >= 2 && outcome.places.every((place) => place.file === "map.sqlite"));
});

Deno.test("a page of the map's file that SQLite cannot use is told", async () => {
  const { test, story } = await begin(6, SMALL);
  await using _ = test;
  await story.tell(60);
  await test.close();
  const place = `${test.directory}/${VOLUME_FILES.map}`;
  const database = new DatabaseSync(place);
  const page = Number(
    database.prepare("SELECT rootpage FROM sqlite_master WHERE name = 'regions'").get()?.["rootpage"],
  );
  database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  database.close();
  const bytes = await Deno.readFile(place);
  bytes.fill(0x5a, (page - 1) * 4096, page * 4096 - 2048);
  await Deno.writeFile(place, bytes);
  const outcome = await scrubVolume({
    directory: test.directory,
    volumeId: test.row.id,
    marks: test.marks,
    policy: POLICY,
    nowUs: test.clock.us,
  }, {
    disk: test.disk,
    scheduler: systemScheduler,
    sliceMs: 2,
    signal: new AbortController().signal,
    onProgress: () => {},
  });
  assert(outcome.damagedPlaces > 0);
  assert(outcome.places.every((place) => place.file === "map.sqlite"));
  assert.match(outcome.hint ?? "", /varve rebuild/);
});

Deno.test("what hosts write and a prune takes away meanwhile is no damage", async () => {
  for (let seed = 1; seed <= 3; seed++) {
    const { test, story } = await begin(seed, SMALL);
    await using _ = test;
    await story.tell(150);
    await test.volume.settleSegments();
    const common = { onProgress: () => {}, signal: new AbortController().signal };
    // Slowly enough that all of it goes on while the prune does.
    const scrubs = [2_000_000, 10_000_000].map((rateBytes) => story.scrub({ order: { rateBytes } }));
    const writing = story.tell(60);
    const plan = await planPrune(test.volume, {
      marks: test.marks,
      policy: { continuous: "2h", tiers: [{ every: "5h", for: "60h" }] },
      nowUs: test.clock.us,
      ...common,
    });
    assert(plan.segments.length > 0);
    await prune(test.volume, plan, common);
    await writing;
    for (const outcome of await Promise.all(scrubs)) {
      assert.deepEqual(outcome.places, [], `seed ${seed}`);
      assert.deepEqual(outcome.damagedSeqs, [], `seed ${seed}`);
    }
  }
});

Deno.test("after a prune, damage that no kept moment sees is harmless", async () => {
  for (let seed = 1; seed <= 3; seed++) {
    const { test, story } = await begin(seed, SMALL);
    await using _ = test;
    await story.tell(150);
    await test.volume.settleSegments();
    const common = { onProgress: () => {}, signal: new AbortController().signal };
    const plan = await planPrune(test.volume, {
      marks: test.marks,
      policy: { continuous: "10h", tiers: [{ every: "5h", for: "60h" }] },
      nowUs: test.clock.us,
      ...common,
    });
    await prune(test.volume, plan, common);
    const kept = [...plan.keptSeqs];
    for (let seq = plan.outcome.base.seq + 1; seq < story.past.length; seq++) kept.push(seq);
    let harmless = 0;
    for (let i = 0; i < 30; i++) {
      const segments = story.segments();
      const { segment, bytes } = segments[story.random.below(segments.length)] ?? { segment: 1, bytes: 64 };
      const offset = story.random.below(bytes);
      const message = `seed ${seed}, byte ${offset} of segment ${segment} after a prune`;
      story.flip(segment, offset, 1);
      const outcome = await story.scrub();
      const failing = await story.failing(message, kept);
      const told = seqsOf(outcome);
      assert.deepEqual(kept.filter((seq) => told.has(seq)), [...failing], message);
      assert.equal(outcome.damagedPlaces, 1, message);
      assert.equal(outcome.places[0]?.harmless, failing.size === 0, message);
      if (failing.size === 0) harmless++;
      const points = story.points().filter((point) => failing.has(point.seq));
      assert.deepEqual(outcome.points, points, message);
      story.flip(segment, offset, 1);
    }
    assert(harmless > 0);
  }
});

Deno.test("findings beyond a number are counted and not listed, and the moments stay exact", async () => {
  const { test, story } = await begin(9, { ...SMALL, segmentBytes: 1 << 20 });
  await using _ = test;
  const { live } = test.volume;
  for (let i = 0; i < 1200; i++) {
    story.write(i % 20, i + 1);
  }
  await live.sync();
  await test.volume.settle();
  const blocks: [number, number][] = [];
  for (const { segment } of story.segments()) {
    test.volume.segments.scan(segment, 0, ({ header, offset }) => {
      if (header.kind === "write") blocks.push([segment, offset + RECORD_HEADER_BYTES + 100]);
    });
  }
  for (const [segment, offset] of blocks.slice(0, 1100)) story.flip(segment, offset, 4);
  const outcome = await story.scrub();
  assert.deepEqual([outcome.damagedPlaces, outcome.places.length], [1100, 1000]);
  const seqs = [0, 1, 500, 1099, 1100, 1118, 1119, 1120, 1121, 1200];
  const failing = await story.failing("many", seqs);
  const told = seqsOf(outcome);
  assert.deepEqual(seqs.filter((seq) => told.has(seq)), [...failing]);
});

Deno.test("a scrub can be cancelled, and tells how far it is", async () => {
  const { test, story } = await begin(2, SMALL);
  await using _ = test;
  await story.tell(60);
  await test.volume.settle();
  const abort = new AbortController();
  let told = 0;
  const scrub = story.scrub({
    signal: abort.signal,
    order: { rateBytes: 100_000 },
    onProgress: () => {
      if (++told === 3) abort.abort();
    },
  });
  await assert.rejects(scrub, { code: "cancelled" });
  const progress: [number, number][] = [];
  const { directory, row } = test;
  const outcome = await scrubVolume({
    directory,
    volumeId: row.id,
    end: test.volume.live.position.place,
    marks: [],
    policy: POLICY,
    nowUs: test.clock.us,
  }, {
    disk: test.disk,
    scheduler: systemScheduler,
    sliceMs: 0,
    signal: new AbortController().signal,
    onProgress: (done, total) => progress.push([done, total]),
  });
  assert(progress.every(([done, total], i) => done <= total && done >= (progress[i - 1]?.[0] ?? 0)));
  const journal = story.segments().reduce((sum, { bytes }) => sum + bytes, 0);
  assert(outcome.checkedBytes >= journal && (progress.at(-1)?.[0] ?? 0) >= journal);
});

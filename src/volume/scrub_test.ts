import assert from "node:assert/strict";
import { VarveError } from "../base/errors.ts";
import { isText, RECORD_HEADER_BYTES, recordBytes, segmentFileName } from "../journal/mod.ts";
import { assertTrue, begin, SMALL, type Story, WIDE } from "./_scrub_story.ts";

/** Every kind of byte in a segment: each field of a header, table, block, text. */
function telltales(story: Story, segment: number, bytes: number): number[] {
  const offsets = [0, 8, 12, 20, 32, 40, 48, 57, 61];
  const seen = new Set<string>();
  story.test.volume.segments.scan(segment, 0, ({ header, offset }) => {
    if (offset >= bytes || seen.has(header.kind)) return;
    seen.add(header.kind);
    for (const field of [0, 4, 5, 6, 8, 16, 24, 32, 40, 48, 50, 52, 56, 60]) offsets.push(offset + field);
    const body = recordBytes(header) - RECORD_HEADER_BYTES;
    if (body > 0) offsets.push(offset + RECORD_HEADER_BYTES, offset + recordBytes(header) - 1);
    if (!isText(header.kind) && body > 0) offsets.push(offset + RECORD_HEADER_BYTES + 100);
  });
  return offsets;
}

for (
  const { name, shape, every, more } of [
    { name: "small", shape: SMALL, every: 4, more: 15 },
    { name: "wide", shape: WIDE, every: 16, more: 5 },
  ]
) {
  Deno.test(`one flipped byte anywhere (${name}): never wrong data, and scrub tells what fails`, async () => {
    for (let seed = 1; seed <= 2; seed++) {
      const { test, story } = await begin(seed, shape);
      await using _ = test;
      await story.tell(40);
      story.zeroAll();
      await story.tell(20);
      await test.close();
      await test.open();
      await story.tell(15);
      await test.volume.live.sync();
      await test.volume.settle();
      const clean = await story.scrub();
      assert.deepEqual([clean.damagedPlaces, clean.damagedPoints, clean.damagedSeqs], [0, 0, []]);
      assert.equal((await story.failing("clean")).size, 0);
      const segments = story.segments();
      const positions = segments.filter((_, i) => i % 3 === 0).flatMap(({ segment, bytes }) =>
        telltales(story, segment, bytes).map((offset) => ({ segment, offset }))
      ).filter((_, i) => i % every === seed % every);
      for (let i = 0; i < more; i++) {
        const { segment, bytes } = segments[story.random.below(segments.length)] ?? { segment: 1, bytes: 64 };
        positions.push({ segment, offset: story.random.below(bytes) });
      }
      for (const { segment, offset } of positions) {
        const message = `${name}, seed ${seed}, byte ${offset} of segment ${segment}`;
        const mask = 1 << story.random.below(8);
        story.flip(segment, offset, mask);
        const flipped = story.scrub();
        const failing = await story.failing(message);
        const outcome = await flipped;
        assert.equal(outcome.damagedPlaces, outcome.places.length);
        assert(
          outcome.places.some((place) =>
            place.segment === segment && (place.offset ?? 0) <= offset &&
            offset < (place.offset ?? 0) + place.length
          ),
          `${message}: ${JSON.stringify(outcome.places)}`,
        );
        assert(
          outcome.places.every((place) => place.file === `segments/${segmentFileName(segment)}`),
          message,
        );
        assert.equal(outcome.places.length, 1, `${message}: ${JSON.stringify(outcome.places)}`);
        assertTrue(story, outcome, failing, message);
        story.flip(segment, offset, mask);
      }
    }
  });
}

Deno.test("a truncated and a deleted segment: all that they held is damaged, the rest reads on", async () => {
  for (let seed = 1; seed <= 4; seed++) {
    const { test, story } = await begin(seed, SMALL);
    await using _ = test;
    await story.tell(80);
    await test.volume.settleSegments();
    const listed = story.segments().slice(0, -1);
    const { segment, bytes } = listed[story.random.below(listed.length)] ?? { segment: 0, bytes: 0 };

    const place = story.place(segment);
    const file = test.disk.open(place, { mode: "write" });
    const content = new Uint8Array(bytes);
    file.read(0, content);
    const left = story.random.below(bytes);
    file.truncate(left);
    const short = await story.scrub();
    const message = `seed ${seed}: ${left} of ${bytes} bytes are left of segment ${segment}`;
    assertTrue(story, short, await story.failing(message), message);
    assert.deepEqual(short.places.map((each) => (each.offset ?? 0) + each.length), [bytes], message);
    assert.match(short.places[0]?.problem ?? "", new RegExp(`the file has ${left} bytes, ${bytes} were`));
    file.write(0, content);
    assert.equal((await story.scrub()).damagedPlaces, 0);

    test.disk.remove(place);
    test.volume.segments.forget(segment);
    const gone = await story.scrub();
    assertTrue(story, gone, await story.failing("deleted"), `seed ${seed}: segment ${segment} is deleted`);
    assert.deepEqual(gone.places.map(({ problem, offset, length }) => [problem, offset, length]), [
      ["the file is missing", 0, bytes],
    ]);
  }
});

Deno.test("a segment that no list names is missed by what the map refers to", async () => {
  const { test, story } = await begin(3, SMALL);
  await using _ = test;
  await story.tell(60);
  await test.volume.settleSegments();
  const segment = story.segments()[1]?.segment ?? 0;
  test.disk.remove(story.place(segment));
  test.volume.segments.forget(segment);
  test.volume.map.statement("DELETE FROM segments WHERE segment = ?").run(segment);
  const outcome = await story.scrub();
  assertTrue(story, outcome, await story.failing("unlisted"), "unlisted");
  assert(outcome.damagedPlaces > 0 && outcome.places.every((place) => place.segment === segment));
});

Deno.test("bytes that storage will not give: what needs them fails, and scrub goes on behind them", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const { test, story } = await begin(seed, SMALL);
    await using _ = test;
    await story.tell(60);
    await test.volume.live.sync();
    await test.volume.settle();
    const segments = story.segments();
    const { segment, bytes } = segments[story.random.below(segments.length)] ?? { segment: 1, bytes: 0 };
    const from = story.random.below(bytes);
    const end = Math.min(bytes, from + 1 + story.random.below(20_000));
    // As a damaged frame of a compressed segment, or a bad sector of a disk, would.
    const code = seed % 2 === 0 ? "damaged" : "io";
    const open = test.disk.open.bind(test.disk);
    test.disk.open = (place, options) => {
      const file = open(place, options);
      if (place !== story.place(segment)) return file;
      const read = file.read.bind(file);
      file.read = (offset, target) => {
        if (offset < end && offset + target.length > from) throw new VarveError(code, "read: a bad place");
        return read(offset, target);
      };
      return file;
    };
    test.volume.segments.forget(segment);
    const message = `seed ${seed}: bytes ${from} to ${end} of ${bytes} of segment ${segment}`;
    const failing = await story.failing(message, undefined, ["damaged", "io"]);
    const outcome = await story.scrub();
    assertTrue(story, outcome, failing, message);
    assert(
      outcome.places.every((place) => place.segment === segment && place.problem.includes("a bad place")),
    );
    for (const offset of [from, end - 1]) {
      assert(
        outcome.places.some((place) =>
          (place.offset ?? 0) <= offset && offset < (place.offset ?? 0) + place.length
        ),
        `${message}: ${JSON.stringify(outcome.places)}`,
      );
    }
  }
});

Deno.test("several damaged places at once: each is named, and the moments are exactly those that fail", async () => {
  for (let seed = 11; seed <= 12; seed++) {
    const { test, story } = await begin(seed, SMALL);
    await using _ = test;
    await story.tell(60);
    await test.volume.live.sync();
    await test.volume.settle();
    const segments = story.segments();
    for (let round = 0; round < 6; round++) {
      const flips = Array.from({ length: 2 + story.random.below(6) }, () => {
        const { segment, bytes } = segments[story.random.below(segments.length)] ?? { segment: 1, bytes: 64 };
        return { segment, offset: story.random.below(bytes), mask: 1 << story.random.below(8) };
      });
      const message = `seed ${seed}, ${JSON.stringify(flips)}`;
      for (const { segment, offset, mask } of flips) story.flip(segment, offset, mask);
      const failing = await story.failing(message);
      const outcome = await story.scrub();
      assertTrue(story, outcome, failing, message);
      assert(outcome.damagedPlaces > 0, message);
      for (const place of outcome.places) {
        assert(
          flips.some(({ segment, offset }) =>
            segment === place.segment && (place.offset ?? 0) <= offset &&
            offset < (place.offset ?? 0) + place.length
          ),
          `${message}: ${JSON.stringify(place)}`,
        );
      }
      assert.deepEqual(
        new Set(outcome.places.map((place) => place.segment)),
        new Set(flips.map(({ segment }) => segment)),
        message,
      );
      for (const { segment, offset, mask } of flips) story.flip(segment, offset, mask);
    }
  }
});

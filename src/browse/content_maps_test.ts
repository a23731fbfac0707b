import assert from "node:assert/strict";
import fc from "fast-check";
import type { ContentRun } from "../guestfs/guest.ts";
import { ContentMaps } from "./content_maps.ts";

/** A file of a few runs, each at a place on the device of its own. */
const layout = fc.array(
  fc.record({ kind: fc.constantFrom("stored", "hole", "made"), length: fc.integer({ min: 1, max: 9 }) }),
  { maxLength: 12 },
).map((parts) => {
  let offset = 0;
  return parts.map(({ kind, length }, index) => {
    const run = kind === "stored" ? { kind, length, deviceOffset: 1000 * index } : { kind, length };
    offset += length;
    return { run: run as ContentRun, offset: offset - length };
  });
});

/** What a reader would answer for `offset`: at most `max` runs, the first one cut at its start. */
function answer(
  file: readonly { run: ContentRun; offset: number }[],
  offset: number,
  max: number,
): ContentRun[] {
  return file.filter(({ run, offset: at }) => at + run.length > offset).slice(0, max).map(
    ({ run, offset: at }) => {
      const cut = Math.max(0, offset - at);
      const length = run.length - cut;
      return run.kind === "stored"
        ? { ...run, length, deviceOffset: run.deviceOffset + cut }
        : { ...run, length };
    },
  );
}

Deno.test("ContentMaps knows each byte where it was told, in whatever order and portions", () => {
  fc.assert(
    fc.property(
      layout,
      fc.array(fc.tuple(fc.nat(120), fc.integer({ min: 1, max: 4 })), { maxLength: 20 }),
      (file, asks) => {
        const maps = new ContentMaps();
        const size = file.reduce((sum, { run }) => sum + run.length, 0);
        for (const [at, max] of asks) {
          if (maps.find("7", at) === undefined) maps.add("7", at, answer(file, at, max));
          for (let offset = 0; offset < 120; offset++) {
            const found = maps.find("7", offset);
            if (found === undefined) continue;
            if (found === "end") {
              assert.ok(offset >= size, `the file ends at ${size}, not at ${offset}`);
              continue;
            }
            const truth = file.find(({ run, offset: start }) =>
              offset >= start && offset < start + run.length
            );
            assert.equal(found.kind, truth?.run.kind);
            if (found.kind === "stored" && truth?.run.kind === "stored") {
              assert.equal(
                found.deviceOffset + offset - found.offset,
                truth.run.deviceOffset + offset - truth.offset,
              );
            }
          }
          assert.notEqual(maps.find("7", at), undefined);
        }
      },
    ),
  );
});

Deno.test("ContentMaps keeps files apart, and forgets those not used for longest", () => {
  const maps = new ContentMaps();
  const many = Array.from({ length: 60_000 }, (): ContentRun => ({ kind: "hole", length: 1 }));
  maps.add("1", 0, many);
  maps.add("2", 0, [{ kind: "made", length: 5 }]);
  assert.deepEqual(maps.find("2", 4), { kind: "made", length: 5, offset: 0 });
  assert.equal(maps.find("3", 0), undefined);
  maps.find("1", 0);
  maps.add("4", 0, many);
  assert.equal(maps.find("2", 4), undefined);
  assert.equal(maps.find("1", 0), undefined);
  assert.notEqual(maps.find("4", 59_999), undefined);
});

Deno.test("ContentMaps refuses runs that make no sense", () => {
  const bad: ContentRun[] = [
    { kind: "hole", length: 0 },
    { kind: "made", length: -1 },
    { kind: "hole", length: 1.5 },
    { kind: "stored", length: 1, deviceOffset: -1 },
    { kind: "stored", length: 1, deviceOffset: NaN },
  ];
  for (const run of bad) {
    assert.throws(() => new ContentMaps().add("1", 0, [run]), { name: "VarveError", code: "damaged" });
  }
});

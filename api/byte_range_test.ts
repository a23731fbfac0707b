import fc from "fast-check";
import assert from "node:assert/strict";
import { parseRange, slice } from "./byte_range.ts";

const { test } = Deno;

test("a Range header is read against the size of the file", () => {
  const cases: [string | undefined, unknown][] = [
    ["bytes=0-0", { offset: 0, length: 1 }],
    ["bytes=2-5", { offset: 2, length: 4 }],
    ["bytes=2-", { offset: 2, length: 8 }],
    ["bytes=2-99", { offset: 2, length: 8 }],
    ["bytes=-3", { offset: 7, length: 3 }],
    ["bytes=-99", { offset: 0, length: 10 }],
    ["bytes=-0", "unsatisfiable"],
    ["bytes=10-", "unsatisfiable"],
    ["bytes=5-2", undefined],
    ["bytes=0-1,3-4", undefined],
    ["bytes=-", undefined],
    ["lines=0-1", undefined],
    [undefined, undefined],
  ];
  for (const [header, expected] of cases) assert.deepEqual(parseRange(header, 10), expected, header);
});

test("an empty file has no range", () => {
  assert.equal(parseRange("bytes=0-", 0), "unsatisfiable");
});

test("a slice of a stream is the slice of its bytes, however they come", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.uint8Array({ maxLength: 8 }), { maxLength: 8 }),
    fc.nat(40),
    fc.integer({ min: 1, max: 40 }),
    async (chunks, offset, length) => {
      const all = chunks.flatMap((chunk) => [...chunk]);
      const found = await new Response(slice(ReadableStream.from(chunks), { offset, length })).bytes();
      assert.deepEqual([...found], all.slice(offset, offset + length));
    },
  ));
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { BLOCK_BYTES } from "./block_device.ts";
import { blockOf, blocksFor, checkRange, fromHex, isZero, toHex, ZERO_BLOCK } from "./bytes.ts";

Deno.test("blockOf() and blocksFor() agree with the block boundaries, beyond 32 bits too", () => {
  const cases: [bytes: number, block: number, blocks: number][] = [
    [0, 0, 0],
    [1, 0, 1],
    [BLOCK_BYTES - 1, 0, 1],
    [BLOCK_BYTES, 1, 1],
    [BLOCK_BYTES + 1, 1, 2],
    [2 ** 45, 2 ** 33, 2 ** 33],
    [2 ** 45 + 1, 2 ** 33, 2 ** 33 + 1],
  ];
  for (const [bytes, block, blocks] of cases) {
    assert.equal(blockOf(bytes), block, `block of ${bytes}`);
    assert.equal(blocksFor(bytes), blocks, `blocks for ${bytes}`);
  }
});

Deno.test("checkRange() takes what lies within the device and nothing else", () => {
  for (const [offset, length] of [[0, 0], [0, 100], [100, 0], [99, 1]] as const) {
    checkRange("read", offset, length, 100);
  }
  for (
    const [offset, length] of [[0, 101], [100, 1], [101, 0], [-1, 1], [1, -1], [0.5, 1], [0, 0.5], [
      NaN,
      0,
    ], [0, Infinity]] as const
  ) {
    assert.throws(
      () => checkRange("read", offset, length, 100),
      { code: "out-of-range" },
      `${offset}+${length}`,
    );
  }
});

Deno.test("isZero() finds a single byte anywhere, at any alignment", () => {
  fc.assert(fc.property(
    fc.nat({ max: 15 }),
    fc.nat({ max: 100 }),
    fc.nat(),
    fc.integer({ min: 1, max: 255 }),
    (start, length, place, value) => {
      const storage = new Uint8Array(140).fill(0xff);
      const bytes = storage.subarray(start, start + length).fill(0);
      assert.equal(isZero(bytes), true);
      if (length === 0) return;
      bytes[place % length] = value;
      assert.equal(isZero(bytes), false);
    },
  ));
  assert.equal(isZero(ZERO_BLOCK), true);
});

Deno.test("toHex() and fromHex() are inverse, and upper case is read as well", () => {
  assert.equal(toHex(Uint8Array.of(0, 0x0a, 0xff)), "000aff");
  assert.deepEqual(fromHex("000AfF"), Uint8Array.of(0, 0x0a, 0xff));
  fc.assert(fc.property(fc.uint8Array(), (bytes) => assert.deepEqual(fromHex(toHex(bytes)), bytes)));
});

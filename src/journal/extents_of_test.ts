import assert from "node:assert/strict";
import fc from "fast-check";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { blockOf } from "../base/bytes.ts";
import { extentsOf, holeGeometry } from "./extents_of.ts";
import { RECORD_HEAD, RECORD_TAIL } from "./format.ts";

/** A range of a device of up to a dozen blocks whose last block may be cut; edges lie on block boundaries often. */
const ranges = fc.tuple(
  fc.integer({ min: 1, max: 12 * BLOCK_BYTES }),
  fc.nat(),
  fc.nat(),
  fc.boolean(),
  fc.boolean(),
)
  .map(([size, a, b, alignA, alignB]) => {
    const place = (value: number, align: boolean) => {
      const at = value % (size + 1);
      return align ? Math.min(size, Math.round(at / BLOCK_BYTES) * BLOCK_BYTES) : at;
    };
    const [first, second] = [place(a, alignA), place(b, alignB)];
    return { size, offset: Math.min(first, second), end: Math.max(first, second) };
  })
  .filter(({ offset, end }) => end > offset);

/** What the carried blocks and holes of a trim do to a device, byte by byte. */
function applied(before: Uint8Array, offset: number, end: number, kind: "trim" | "zero"): Uint8Array {
  const size = before.length;
  const geometry = holeGeometry(offset, end - offset, size);
  const padded = new Uint8Array(Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES);
  padded.set(before);
  const cut = padded.slice().fill(0, offset, end);
  const payload: Uint8Array[] = [];
  if (geometry.head) {
    payload.push(cut.slice(blockOf(offset) * BLOCK_BYTES, (blockOf(offset) + 1) * BLOCK_BYTES));
  }
  if (geometry.tail) payload.push(cut.slice(blockOf(end) * BLOCK_BYTES, (blockOf(end) + 1) * BLOCK_BYTES));
  const extents = extentsOf({
    kind,
    flags: (geometry.head ? RECORD_HEAD : 0) | (geometry.tail ? RECORD_TAIL : 0),
    offset,
    length: end - offset,
    firstBlock: geometry.firstBlock,
    payloadBytes: payload.length * BLOCK_BYTES,
  });
  let covered = 0;
  for (const { firstBlock, blockCount, payloadBlock } of extents) {
    assert.ok(blockCount > 0 && firstBlock >= covered, "ascending, without overlaps");
    covered = firstBlock + blockCount;
    assert.ok(covered * BLOCK_BYTES <= padded.length, "within the device");
    for (let i = 0; i < blockCount; i++) {
      const at = (firstBlock + i) * BLOCK_BYTES;
      const block = payloadBlock < 0 ? new Uint8Array(BLOCK_BYTES) : payload[payloadBlock + i];
      assert.ok(block !== undefined, "the payload has the block");
      padded.set(block, at);
    }
  }
  return padded.subarray(0, size);
}

Deno.test("the extents of a trim or zero do to the blocks what the command does to the bytes", () => {
  fc.assert(
    fc.property(ranges, fc.constantFrom("trim" as const, "zero" as const), ({ size, offset, end }, kind) => {
      const before = new Uint8Array(size).fill(0xff);
      const after = applied(before, offset, end, kind);
      const expected = before.slice().fill(0, offset, end);
      assert.equal(after.findIndex((byte, at) => byte !== expected[at]), -1);
    }),
    { numRuns: 400 },
  );
});

Deno.test("a hole that compaction left without its payload has no cut blocks, and is otherwise the same", () => {
  fc.assert(fc.property(ranges, ({ size, offset, end }) => {
    const { head, tail, firstBlock } = holeGeometry(offset, end - offset, size);
    const record = {
      kind: "trim" as const,
      flags: (head ? RECORD_HEAD : 0) | (tail ? RECORD_TAIL : 0),
      offset,
      length: end - offset,
      firstBlock,
    };
    const whole = extentsOf({ ...record, payloadBytes: ((head ? 1 : 0) + (tail ? 1 : 0)) * BLOCK_BYTES });
    assert.deepEqual(
      extentsOf({ ...record, payloadBytes: 0 }),
      whole.filter(({ payloadBlock }) => payloadBlock < 0),
    );
  }));
});

Deno.test("the extents of a write and a baseline are their payload; other records have none", () => {
  const record = {
    flags: 0,
    offset: 3 * BLOCK_BYTES + 5,
    length: 5000,
    firstBlock: 3,
    payloadBytes: 2 * BLOCK_BYTES,
  };
  for (const kind of ["write", "baseline"] as const) {
    assert.deepEqual(extentsOf({ ...record, kind }), [{ firstBlock: 3, blockCount: 2, payloadBlock: 0 }]);
    assert.deepEqual(extentsOf({ ...record, kind, payloadBytes: 0 }), []);
  }
  for (const kind of ["flush", "mark", "meta"] as const) assert.deepEqual(extentsOf({ ...record, kind }), []);
});

import fc from "fast-check";
import assert from "node:assert/strict";
import { BLOCK_BYTES } from "./block_device.ts";
import { MemoryDevice } from "./memory_device.ts";

Deno.test("memory device: any sequence of changes acts like a byte array, and extents say where data may be", () => {
  const size = 5 * BLOCK_BYTES + 123;
  const change = fc.record({
    kind: fc.constantFrom("write" as const, "trim" as const, "zero" as const),
    at: fc.nat(size),
    length: fc.nat(2 * BLOCK_BYTES + 7),
    byte: fc.integer({ min: 1, max: 255 }),
  });
  fc.assert(fc.property(fc.array(change), fc.nat(size), fc.nat(size), (changes, one, other) => {
    const model = new Uint8Array(size);
    const device = new MemoryDevice(size);
    for (const { kind, at, byte, ...rest } of changes) {
      const length = Math.min(rest.length, size - at);
      if (kind === "write") device.write(at, new Uint8Array(length).fill(byte));
      else device[kind](at, length);
      model.fill(kind === "write" ? byte : 0, at, at + length);
    }
    const [from, to] = [Math.min(one, other), Math.max(one, other)];
    const bytes = new Uint8Array(to - from);
    device.read(from, bytes);
    assert.deepEqual(bytes, model.subarray(from, to));

    let covered = from;
    let last = "";
    for (const { offset, length, kind } of device.extents(from, to - from)) {
      assert.equal(offset, covered);
      assert.ok(length > 0 && kind !== last);
      if (kind === "hole") assert.ok(model.subarray(offset, offset + length).every((byte) => byte === 0));
      covered += length;
      last = kind;
    }
    assert.equal(covered, to);
    const all = device.extents(from, to - from);
    assert.deepEqual(device.extents(from, to - from, 2), all.slice(0, 2));
  }));
});

Deno.test("memory device: whole blocks that are trimmed or zeroed become holes", () => {
  const device = new MemoryDevice(2 ** 52);
  device.write(2 ** 51 - 1, Uint8Array.of(1, 2));
  device.trim(2 ** 51, 2 ** 50);
  assert.deepEqual(device.extents(0, 2 ** 52).map(({ offset, kind }) => [offset, kind]), [
    [0, "hole"],
    [2 ** 51 - BLOCK_BYTES, "data"],
    [2 ** 51, "hole"],
  ]);
  device.zero(0, 2 ** 52);
  assert.deepEqual(device.extents(0, 2 ** 52), [{ offset: 0, length: 2 ** 52, kind: "hole" }]);
});

Deno.test("memory device: refuses what leaves it, and every change when it is read-only", () => {
  const device = new MemoryDevice(100, { content: new Uint8Array(100).fill(7) });
  for (const [at, length] of [[100, 1], [-1, 1], [0, 101], [101, 0], [2 ** 53, 1], [NaN, 1]] as const) {
    const outOfRange = { name: "VarveError", code: "out-of-range" };
    assert.throws(() => device.read(at, new Uint8Array(length)), outOfRange);
    assert.throws(() => device.write(at, new Uint8Array(length)), outOfRange);
    assert.throws(() => device.trim(at, length), outOfRange);
    assert.throws(() => device.zero(at, length), outOfRange);
    assert.throws(() => device.extents(at, length), outOfRange);
  }
  device.read(100, new Uint8Array(0));

  const still = new MemoryDevice(100, { readOnly: true, content: Uint8Array.of(5) });
  for (const change of ["trim", "zero"] as const) {
    assert.throws(() => still[change](0, 1), { code: "read-only" });
  }
  assert.throws(() => still.write(0, new Uint8Array(1)), { code: "read-only" });
  const bytes = new Uint8Array(2);
  still.read(0, bytes);
  assert.deepEqual(bytes, Uint8Array.of(5, 0));
  assert.throws(() => new MemoryDevice(1.5), { code: "invalid" });
  assert.throws(() => new MemoryDevice(1, { content: new Uint8Array(2) }), { code: "out-of-range" });
});

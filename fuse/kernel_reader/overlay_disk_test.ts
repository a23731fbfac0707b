import assert from "node:assert/strict";
import { SeededRandom } from "../../src/base/seeded_random.ts";
import { OverlayDisk } from "./overlay_disk.ts";

const SIZE = 10 * 4096 + 1536;

function baseOf(bytes: Uint8Array) {
  return {
    sizeBytes: bytes.length,
    read: (offset: number, target: Uint8Array) => target.set(bytes.subarray(offset, offset + target.length)),
  };
}

for (const memoryBytes of [0, 3 * 4096, 1024 ** 2]) {
  Deno.test(`overlay: reads what was written last, with ${memoryBytes} bytes of memory`, () => {
    const bytes = Uint8Array.from({ length: SIZE }, (_, index) => index % 251);
    const expected = bytes.slice();
    using disk = new OverlayDisk(baseOf(bytes), { memoryBytes });
    const random = new SeededRandom(7);
    for (let round = 0; round < 300; round++) {
      const offset = random.below(SIZE);
      const length = random.below(Math.min(9000, SIZE - offset) + 1);
      const part = new Uint8Array(length).fill(round);
      disk.write(offset, part);
      expected.set(part, offset);
      const from = random.below(SIZE);
      const seen = new Uint8Array(SIZE - from);
      disk.read(from, seen);
      assert.deepEqual(seen, expected.subarray(from));
    }
    assert.deepEqual(
      bytes,
      Uint8Array.from({ length: SIZE }, (_, index) => index % 251),
      "below nothing changed",
    );
  });
}

Deno.test("overlay: there is an end to what it takes, and to the disk", () => {
  using disk = new OverlayDisk(baseOf(new Uint8Array(SIZE)), { memoryBytes: 4096, totalBytes: 2 * 4096 });
  disk.write(0, new Uint8Array(8192).fill(1));
  disk.write(0, new Uint8Array(8192).fill(2));
  assert.throws(() => disk.write(8192, new Uint8Array(1)), { code: "no-space" });
  const seen = new Uint8Array(1);
  disk.read(8192, seen);
  assert.deepEqual(seen, Uint8Array.of(0));
  assert.throws(() => disk.write(SIZE, new Uint8Array(1)), { code: "out-of-range" });
  assert.throws(() => disk.read(SIZE - 1, new Uint8Array(2)), { code: "out-of-range" });
});

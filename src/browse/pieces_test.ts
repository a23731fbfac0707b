import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import { readPieces } from "./pieces.ts";

const device = new MemoryDevice(100, {
  content: Uint8Array.from({ length: 100 }, (_, at) => at),
  readOnly: true,
});
const pieces = [{ offset: 50, length: 10 }, { offset: 10, length: 5 }, { offset: 90, length: 10 }];
const whole = pieces.flatMap(({ offset, length }) => Array.from({ length }, (_, at) => offset + at));

Deno.test("readPieces reads any range across pieces", () => {
  for (let from = 0; from <= whole.length; from++) {
    for (let to = from; to <= whole.length; to++) {
      const target = new Uint8Array(to - from);
      readPieces(device, pieces, from, target);
      assert.deepEqual([...target], whole.slice(from, to), `${from} to ${to}`);
    }
  }
});

Deno.test("readPieces never reads outside the pieces", () => {
  for (const [offset, length] of [[24, 2], [25, 1], [1000, 1], [-1, 1], [-1, 3]] as const) {
    assert.throws(
      () => readPieces(device, pieces, offset, new Uint8Array(length)),
      { code: "damaged" },
      `${offset}`,
    );
  }
});

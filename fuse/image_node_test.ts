import assert from "node:assert/strict";
import { MemoryDevice } from "../src/base/memory_device.ts";
import { seekDevice } from "./image_node.ts";

Deno.test("seekDevice finds data and holes as lseek does, across windows", () => {
  const device = new MemoryDevice(3 * 1024 ** 3 + 100);
  const data = new Uint8Array(4096).fill(1);
  device.write(8192, data);
  device.write(2.5 * 1024 ** 3, data);
  const cases: [from: number, kind: "data" | "hole", found: number | undefined][] = [
    [0, "data", 8192],
    [0, "hole", 0],
    [8192, "data", 8192],
    [9000, "data", 9000],
    [9000, "hole", 12288],
    [12288, "data", 2.5 * 1024 ** 3],
    [2.5 * 1024 ** 3 + 4096, "data", undefined],
    [device.sizeBytes - 1, "hole", device.sizeBytes - 1],
    [device.sizeBytes, "hole", undefined],
    [2 ** 63, "data", undefined],
  ];
  for (const [from, kind, found] of cases) {
    assert.equal(seekDevice(device, from, kind), found, `${kind} from ${from}`);
  }
});

Deno.test("the end of a device full of data is a hole", () => {
  const device = new MemoryDevice(8192, { content: new Uint8Array(8192).fill(1) });
  assert.equal(seekDevice(device, 5, "hole"), 8192);
});

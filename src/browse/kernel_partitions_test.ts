import assert from "node:assert/strict";
import { MemoryDevice } from "../guestfs/_test_support.ts";
import { KernelPartitions } from "./kernel_partitions.ts";
import type { KernelPartition, KernelRead } from "./kernel_reading.ts";
import type { PastFileSystem, PastPartition } from "./past_file_system.ts";

const MOMENT = { place: { directory: "/volume", sizeBytes: 8192 }, seq: 5 };

/** A disk whose second half is XFS, as far as its first bytes go. */
function disk() {
  const bytes = new Uint8Array(8192);
  bytes.set(new TextEncoder().encode("XFSB"), 4096);
  return new MemoryDevice(bytes);
}

function partition(more: Partial<PastPartition> = {}): PastPartition {
  const pieces = [{ offset: 4096, length: 4096 }];
  return { name: "p1", pieces, fileSystem: undefined, reason: "none", ...more };
}

async function ask(found: PastPartition, answer?: KernelRead) {
  const asked: KernelPartition[] = [];
  const kernel = {
    open: (each: KernelPartition) => {
      asked.push(each);
      return Promise.resolve(answer ?? { refused: "it will not" });
    },
    close: () => Promise.resolve(),
  };
  const partitions = new KernelPartitions(MOMENT, disk(), kernel);
  const { partitions: [seen] } = await partitions.add({ table: "mbr", partitions: [found] });
  return { asked, seen, partitions };
}

Deno.test("kernel partitions: what no reader knows, or lacks a feature for, is asked about by its format", async () => {
  for (const more of [{}, { refusal: "unsupported" as const }]) {
    const { asked, seen } = await ask(partition(more));
    assert.deepEqual(asked, [{ ...MOMENT, name: "p1", pieces: partition().pieces, type: "xfs" }]);
    assert.match(seen?.reason ?? "", /^none; the host's kernel does not read it either: it will not$/);
  }
});

Deno.test("kernel partitions: the kernel never gets what is damaged, unknown, beyond the disk or read already", async () => {
  const fileSystem = {} as PastFileSystem;
  for (
    const found of [
      partition({ refusal: "damaged" }),
      partition({ refusal: "io" }),
      partition({ fileSystem, reason: undefined }),
      partition({ pieces: [{ offset: 0, length: 4096 }] }),
      partition({ pieces: [{ offset: 4096, length: 8192 }] }),
    ]
  ) {
    const { asked, seen } = await ask(found);
    assert.deepEqual([asked, seen], [[], found]);
  }
});

Deno.test("kernel partitions: what it reads is shown, and given back with the moment", async () => {
  const fileSystem = {} as PastFileSystem;
  let closed = 0;
  const { seen, partitions } = await ask(partition(), { fileSystem, close: () => void closed++ });
  assert.equal(seen?.fileSystem, fileSystem);
  assert.equal(seen?.reason, undefined);
  partitions.close();
  partitions.close();
  assert.equal(closed, 1);
});

Deno.test("kernel partitions: without a kernel a hint names the driver and the option", async () => {
  const partitions = new KernelPartitions(MOMENT, disk(), undefined);
  const { partitions: [seen] } = await partitions.add({ table: "mbr", partitions: [partition()] });
  assert.match(seen?.hint ?? "", /driver xfs: start the appliance with --kernel-readers/);
  assert.equal(seen?.reason, "none");
});

/**
 * Entry of a serving thread for tests: every moment holds one file that tells its sequence.
 *
 * @module
 */
import { MemoryDevice } from "../src/base/memory_device.ts";
import { directDisk } from "../src/browse/direct_disk.ts";
import { wholeDisk } from "./_testing.ts";
import { serveInWorker, type WorkerScope } from "./serve.ts";

serveInWorker(self as unknown as WorkerScope, {
  close() {},
  open({ directory, sizeBytes }, seq) {
    if (directory === "poison") setTimeout(() => Promise.reject(new Error("the poison worked")));
    if (directory === "endless") { for (;;); }
    const device = new MemoryDevice(sizeBytes, { readOnly: true });
    const disk = wholeDisk({
      2: { names: { file: 3, big: 4 } },
      3: { content: `sequence ${seq}\n` },
      4: { patternBytes: 50_000_000 },
    });
    return { device, disk: () => directDisk(disk), close() {} };
  },
});

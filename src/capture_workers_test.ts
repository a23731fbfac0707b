import assert from "node:assert/strict";
import path from "node:path";
import { BLOCK_BYTES } from "./base/block_device.ts";
import { systemClock } from "./base/clock.ts";
import type { VarveError } from "./base/errors.ts";
import type { VolumeRow } from "./catalog/catalog.ts";
import { FileDisk } from "./disk/mod.ts";
import { CaptureWorkers } from "./capture_workers.ts";
import { segmentFileName } from "./journal/mod.ts";
import { VOLUME_FILES } from "./timeline/past.ts";
import { prepareVolume } from "./volume/prepare_volume.ts";
import { Volume } from "./volume/volume.ts";

const BLOCKS = 2048;
/** More than the main thread brings to the primary by itself. */
const MANY = 1500;

/** A volume in a folder of the machine whose long work is done by Workers. */
class WorkedVolume implements AsyncDisposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "varve-workers-" });
  readonly workers = new CaptureWorkers();
  readonly failures: VarveError[] = [];
  readonly primaryPath = path.join(this.folder, "primary.img");
  volume: Volume | undefined;
  /** What the Workers were asked for. */
  applied = 0;
  indexed = 0;

  async open(): Promise<Volume> {
    const disk = new FileDisk();
    const row: VolumeRow = {
      id: "00112233445566778899aabbccddeeff",
      name: "worked",
      sizeBytes: BLOCKS * BLOCK_BYTES,
      primaryPath: this.primaryPath,
      primaryManaged: true,
      createdUs: systemClock.nowUs(),
      policy: "{}",
    };
    await prepareVolume(row, { disk, directory: this.folder, adopt: false });
    return this.volume = await Volume.open(row, {
      disk,
      clock: systemClock,
      directory: this.folder,
      describe: () => ({ volume: row, marks: [] }),
      onThinned: () => {},
      onText: () => {},
      onFailure: (error) => this.failures.push(error),
      handsFor: (local, place) => {
        const hands = this.workers.handsFor(
          { ...local, apply: () => Promise.reject(new Error("it was done on the main thread")) },
          place,
        );
        return {
          apply: (extents, sizeBytes) => {
            this.applied++;
            return hands.apply(extents, sizeBytes);
          },
          index: (order) => {
            this.indexed++;
            return hands.index(order);
          },
          close: () => hands.close(),
        };
      },
    });
  }

  /** Writes many blocks, all of one byte. */
  write(fill: number): void {
    for (let block = 0; block < MANY; block++) {
      this.volume?.live.write(block * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(fill));
    }
    this.volume?.live.commit();
  }

  /** Bytes of the first and the last block written, as the file at a path has them. */
  ends(place: string): number[] {
    const bytes = Deno.readFileSync(place);
    return [bytes[0] ?? -1, bytes[MANY * BLOCK_BYTES - 1] ?? -1, bytes[MANY * BLOCK_BYTES] ?? -1];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.volume?.close().catch(() => {});
    this.workers.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

Deno.test("CaptureWorkers bring the journal to the primary and to the map, and a closed volume is all there", async () => {
  await using worked = new WorkedVolume();
  const volume = await worked.open();
  worked.write(1);
  await volume.live.sync();
  assert.deepEqual(worked.ends(worked.primaryPath), [1, 1, 0]);
  worked.write(2);
  await volume.settle();
  assert.equal(volume.indexedSeq, 2 * MANY);
  const target = new Uint8Array(BLOCK_BYTES);
  const fills = [1, MANY, MANY + 1, 2 * MANY].map(async (seq) => {
    (await volume.view(seq)).read(0, target);
    return target[0];
  });
  assert.deepEqual(await Promise.all(fills), [1, 1, 2, 2]);
  await volume.close();
  assert.deepEqual(worked.ends(worked.primaryPath), [2, 2, 0]);
  assert(worked.applied >= 2 && worked.indexed >= 1);
  assert.deepEqual(worked.failures, []);
});

Deno.test("CaptureWorkers write to the primary that the volume has open, whatever its name leads to", async () => {
  await using worked = new WorkedVolume();
  const { live } = await worked.open();
  const moved = path.join(worked.folder, "moved.img");
  await Deno.rename(worked.primaryPath, moved);
  await Deno.writeFile(worked.primaryPath, new Uint8Array(BLOCKS * BLOCK_BYTES).fill(9));
  worked.write(1);
  await live.sync();
  assert.deepEqual(worked.ends(moved), [1, 1, 0]);
  assert.deepEqual(worked.ends(worked.primaryPath), [9, 9, 9]);
});

Deno.test("CaptureWorkers tell what failed as what it is, and go on afterwards", async () => {
  await using worked = new WorkedVolume();
  const { live } = await worked.open();
  worked.write(1);
  const place = path.join(worked.folder, VOLUME_FILES.segments, segmentFileName(1));
  const segment = Deno.openSync(place, { read: true, write: true });
  const at = 700 * BLOCK_BYTES;
  segment.seekSync(at, Deno.SeekMode.Start);
  const before = new Uint8Array(1);
  segment.readSync(before);
  const put = (byte: number) => {
    segment.seekSync(at, Deno.SeekMode.Start);
    segment.writeSync(Uint8Array.of(byte));
  };
  put((before[0] ?? 0) ^ 1);
  await assert.rejects(live.sync(), { name: "VarveError", code: "damaged" });
  put(before[0] ?? 0);
  await live.sync();
  segment.close();
  assert.deepEqual(worked.ends(worked.primaryPath), [1, 1, 0]);
});

Deno.test("CaptureWorkers that are ended fail what they were asked for, and others take their place", async () => {
  await using worked = new WorkedVolume();
  const { live } = await worked.open();
  worked.write(1);
  const sync = live.sync();
  const outcome = assert.rejects(sync, { name: "VarveError", code: "cancelled" });
  while (worked.applied === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  worked.workers.close();
  await outcome;
  await live.sync();
  assert.deepEqual(worked.ends(worked.primaryPath), [1, 1, 0]);
});

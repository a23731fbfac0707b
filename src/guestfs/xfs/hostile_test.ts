import { ok } from "node:assert/strict";
import { openGuestDisk } from "../guest_disk.ts";
import { ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import { changeTree, fillTree } from "../_busy_tree.ts";
import { exercise, random } from "../_hostile.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { changeXfs, fillXfs } from "./_busy_xfs.ts";
import { makeVersion4 } from "./_version4.ts";
import { checksumOf } from "./checksum.ts";
import { INODE_MAGIC, MAGIC } from "./format.ts";
import { LogArea, RECORD_MAGIC } from "./log_area.ts";
import { findRange, type LogRange } from "./log_head.ts";
import { blockBehind, readBody, readHeader, recordChecksum, type RecordHeader } from "./log_record.ts";
import { SectorOverlay } from "./sector_overlay.ts";
import { readSuperblock } from "./superblock.ts";
import { blockOffset } from "./volume.ts";

const IMAGES_PER_KIND = 170;
const LOGS = 500;
const VISITS_MAX = 700;
const PAGE_BYTES = 512;

const KINDS: Readonly<Record<string, string[]>> = {
  "version 5": [],
  "version 5, blocks of 1 KiB": ["-b", "size=1024"],
  "version 4": ["-m", "crc=0"],
};

/** An image with changes over it that cost nothing to take back. */
class ChangedDevice extends ImageDevice {
  readonly #pages = new Map<number, Uint8Array>();

  override read(offset: number, target: Uint8Array): void {
    super.read(offset, target);
    for (const [page, bytes] of this.#pages) {
      const from = Math.max(offset, page * PAGE_BYTES);
      const to = Math.min(offset + target.length, (page + 1) * PAGE_BYTES);
      if (from < to) {
        target.set(bytes.subarray(from - page * PAGE_BYTES, to - page * PAGE_BYTES), from - offset);
      }
    }
  }

  /** Changes a range; a range over pages is several changes. */
  put(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const page = Math.floor((offset + done) / PAGE_BYTES);
      const within = offset + done - page * PAGE_BYTES;
      const whole = new Uint8Array(PAGE_BYTES);
      this.read(page * PAGE_BYTES, whole);
      const part = bytes.subarray(done, done + PAGE_BYTES - within);
      whole.set(part, within);
      this.#pages.set(page, whole);
      done += part.length;
    }
  }

  reset(): void {
    this.#pages.clear();
  }
}

/** A structure of the image: where it is, how long, and where its checksum stands. */
interface Structure {
  readonly offset: number;
  readonly length: number;
  readonly crc: number | undefined;
}

/** Finds structures by their magic numbers. */
function structuresOf(image: Uint8Array, blockBytes: number, v5: boolean): Structure[] {
  const view = new DataView(image.buffer, image.byteOffset);
  const crcs = new Map<number, number>([
    [MAGIC.dirBlock.v5, 4],
    [MAGIC.dirData.v5, 4],
    [MAGIC.bmbt.v5, 64],
    [0x58534c4d, 12],
    [0x5841524d, 12],
    [0x58414746, 216],
    [0x58414749, 312],
    [0x58465342, 224],
  ]);
  const words = v5
    ? crcs
    : new Map([MAGIC.dirBlock.v4, MAGIC.dirData.v4, MAGIC.bmbt.v4].map((magic) => [magic, 0]));
  const form = v5 ? "v5" : "v4";
  const halves: readonly number[] = [MAGIC.dirLeaf, MAGIC.dirLeafOfNode, MAGIC.node, MAGIC.attrLeaf].map((
    magic,
  ) => magic[form]);
  const found: Structure[] = [];
  for (let offset = 0; offset + blockBytes <= image.length; offset += PAGE_BYTES) {
    const word = view.getUint32(offset);
    const crc = words.get(word);
    if (word === RECORD_MAGIC) found.push({ offset, length: PAGE_BYTES * 8, crc: undefined });
    else if (word >>> 16 === INODE_MAGIC) {
      found.push({ offset, length: PAGE_BYTES, crc: v5 ? 100 : undefined });
    } else if (crc !== undefined) {
      const header = [216, 312, 224].includes(crc);
      found.push({ offset, length: header ? PAGE_BYTES : blockBytes, crc: v5 ? crc : undefined });
    } else if (halves.includes(view.getUint16(offset + 8)) && offset % blockBytes === 0) {
      found.push({ offset, length: blockBytes, crc: v5 ? 12 : undefined });
    }
  }
  return found;
}

/** Changes some bytes of a structure and, mostly, makes its checksum right again. */
function damage(
  device: ChangedDevice,
  { offset, length, crc }: Structure,
  next: (below: number) => number,
): void {
  const bytes = new Uint8Array(length);
  device.read(offset, bytes);
  const view = new DataView(bytes.buffer);
  for (let flips = 1 + next(4); flips > 0; flips--) {
    // The first bytes say most.
    const at = next(2) === 0 ? next(Math.min(length, 200)) : next(length);
    const kind = next(5);
    if (kind === 0) bytes[at] = next(256);
    else if (kind === 1) bytes[at] = (bytes[at] ?? 0) ^ (1 << next(8));
    else if (kind === 2 && at + 4 <= length) view.setUint32(at, [0, 1, 0xffffffff, 0x7fffffff][next(4)] ?? 0);
    else if (kind === 3 && at + 8 <= length) view.setBigUint64(at, BigInt(next(2 ** 31)) << BigInt(next(30)));
    else if (at + 8 <= length) bytes.copyWithin(at, next(length - 8), next(length));
  }
  if (crc !== undefined && next(8) !== 0) view.setUint32(crc, checksumOf(bytes, crc), true);
  device.put(offset, bytes);
}

for (const [kind, make] of Object.entries(KINDS)) {
  mountTest(`xfs: damaged images (${kind}) give answers or our errors, and an end`, async () => {
    await using folder = new TemporaryFolder();
    using kernel = new Kernel();
    const image = `${folder.path}/image`;
    const v5 = !make.includes("crc=0");
    if (v5) {
      await run("truncate", "-s", "300M", image);
      await run("mkfs.xfs", "-q", "-f", "--unsupported", "-l", "size=8m", ...make, image);
      const options = { reflink: true, pieces: 300 };
      await using mount = await Mount.open(image, "defaults", "xfs");
      await fillTree(mount.path, kernel, { names: 300, xattrBytes: 20_000 });
      await fillXfs(mount.path, kernel, options);
      await run("sync", "-f", mount.path);
      await changeTree(mount.path, 0);
      await changeXfs(mount.path, 0, options);
      kernel.shutDown(mount.path);
    } else {
      await makeVersion4(folder.path, image, []);
    }
    const bytes = await Deno.readFile(image);
    const structures = structuresOf(bytes, make.includes("size=1024") ? 1024 : 4096, v5);
    ok(structures.length > 300);
    using device = new ChangedDevice(image);
    const whole = openGuestDisk(device).partitions[0]?.fileSystem;
    ok(whole !== undefined && exercise(whole, VISITS_MAX) > 400);
    let opened = 0;
    for (let seed = 1; seed <= IMAGES_PER_KIND; seed++) {
      const next = random(seed);
      for (let count = 1 + next(12); count > 0; count--) {
        const structure = structures[next(next(3) === 0 ? 40 : structures.length)];
        if (structure !== undefined) damage(device, structure, next);
      }
      try {
        const { partitions } = openGuestDisk(device);
        for (const { fileSystem } of partitions) {
          if (fileSystem === undefined) continue;
          opened++;
          exercise(fileSystem, VISITS_MAX);
        }
      } catch (thrown) {
        throw new Error(`seed ${seed}: ${thrown}`, { cause: thrown });
      }
      device.reset();
    }
    ok(opened > IMAGES_PER_KIND / 10, `${opened} of ${IMAGES_PER_KIND} could be opened`);
  });
}

/** The records that a mount would replay. */
function recordsOf(log: LogArea, { tail, head }: LogRange): RecordHeader[] {
  const records: RecordHeader[] = [];
  for (let block = tail; block !== head;) {
    const record = readHeader(log, block);
    records.push(record);
    block = blockBehind(log, record);
  }
  return records;
}

/** Changes some bytes of a record's operations, and makes its checksum right again. */
function damageRecord(
  device: ChangedDevice,
  { log, start }: { log: LogArea; start: number },
  { record, next }: { record: RecordHeader; next: (below: number) => number },
): void {
  const body = readBody(log, record, true);
  if (body === undefined) return;
  const view = new DataView(body.buffer, body.byteOffset, record.length);
  for (let flips = 1 + next(3); flips > 0; flips--) {
    // Operations and the heads of items are short and dense.
    const at = next(Math.min(record.length, next(2) === 0 ? 2000 : record.length) - 8);
    const kind = next(4);
    if (kind === 0) view.setUint8(at, next(256));
    else if (kind === 1) view.setUint8(at, view.getUint8(at) ^ (1 << next(8)));
    else if (kind === 2) view.setUint32(at, [0, 1, 0xffffffff, 0x7fffffff][next(4)] ?? 0);
    else view.setUint16(at, 0x1236 + next(20), true);
  }
  for (let block = 0; block < record.bodyBlocks; block++) {
    const where = log.wrap(record.block + record.headerBlocks + block) * PAGE_BYTES;
    device.put(start + where, body.subarray(block * PAGE_BYTES, (block + 1) * PAGE_BYTES));
  }
  const crc = new Uint8Array(4);
  new DataView(crc.buffer).setUint32(0, recordChecksum(record, body, 328), true);
  device.put(start + record.block * PAGE_BYTES + 32, crc);
}

mountTest("xfs: damaged logs whose checksums match give answers or our errors, and an end", async () => {
  await using folder = new TemporaryFolder();
  using kernel = new Kernel();
  const image = `${folder.path}/image`;
  await run("truncate", "-s", "300M", image);
  await run("mkfs.xfs", "-q", "-f", "--unsupported", "-l", "size=8m", image);
  {
    await using mount = await Mount.open(image, "defaults", "xfs");
    await Deno.mkdir(`${mount.path}/many`);
    for (let index = 0; index < 40; index++) {
      Deno.writeTextFileSync(`${mount.path}/many/name number ${index}`, "");
    }
    await fillXfs(mount.path, kernel, { reflink: true, pieces: 40 });
    await changeTree(mount.path, 0).catch(() => {});
    await changeXfs(mount.path, 0, { reflink: true });
    kernel.shutDown(mount.path);
  }
  using device = new ChangedDevice(image);
  const superblock = readSuperblock(device, new SectorOverlay());
  const log = new LogArea(device, superblock);
  const records = recordsOf(log, findRange(log, superblock));
  const start = blockOffset(superblock, superblock.logStart, superblock.logBlocks);
  ok(records.length > 10);
  let [opened, refused] = [0, 0];
  for (let seed = 1; seed <= LOGS; seed++) {
    const next = random(seed);
    for (let count = 1 + next(3); count > 0; count--) {
      const record = records[next(records.length)];
      if (record !== undefined) damageRecord(device, { log, start }, { record, next });
    }
    try {
      const [partition] = openGuestDisk(device).partitions;
      if (partition?.fileSystem === undefined) refused++;
      else if (++opened % 4 === 0) exercise(partition.fileSystem, VISITS_MAX);
    } catch (thrown) {
      throw new Error(`seed ${seed}: ${thrown}`, { cause: thrown });
    }
    device.reset();
  }
  ok(opened > LOGS / 10 && refused > LOGS / 10, `${opened} of ${LOGS} could be opened`);
});

import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { closeSync, openSync, writeSync } from "node:fs";
import { VarveError } from "../../base/errors.ts";
import { latin1 } from "../_bytes.ts";
import { noise } from "../_busy_tree.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { describeTree, differences, ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import { appendRecords, OPERATION, packed, transactionOf } from "./_log_writer.ts";
import { checksumOf } from "./checksum.ts";
import { DIR_HEADER, MAGIC } from "./format.ts";
import { SectorOverlay } from "./sector_overlay.ts";
import { readSuperblock } from "./superblock.ts";
import { openXfs } from "./xfs_reader.ts";

const BLOCK_BYTES = 4096;
const [MAP, UNMAP] = [1, 2];
const INTENT = { map: 0x1244, mapDone: 0x1245, attribute: 0x1246, exchange: 0x1248 } as const;

/** An image that was unmounted, with one file of ten blocks and a hole behind them. */
async function cleanImage(folder: string): Promise<string> {
  const image = `${folder}/image`;
  await run("truncate", "-s", "300M", image);
  await run("mkfs.xfs", "-q", "-f", "-m", "rmapbt=0,reflink=1", image);
  await using mount = await Mount.open(image, "defaults", "xfs");
  Deno.writeFileSync(`${mount.path}/file`, noise(1, 10 * BLOCK_BYTES));
  Deno.truncateSync(`${mount.path}/file`, 50 * BLOCK_BYTES);
  return image;
}

interface Subject {
  readonly inode: number;
  /** Block address of the first block. */
  readonly address: number;
}

function subjectOf(image: string): Subject {
  using device = new ImageDevice(image);
  const fileSystem = openXfs(device);
  const inode = fileSystem.lookup(fileSystem.root, new TextEncoder().encode("file"));
  ok(inode !== undefined);
  const [run] = fileSystem.map(inode, 0, 1);
  ok(run?.kind === "stored");
  const { groupBlocks, groupBlocksLog } = readSuperblock(device, new SectorOverlay());
  const block = run.deviceOffset / BLOCK_BYTES;
  return { inode, address: Math.floor(block / groupBlocks) * 2 ** groupBlocksLog + block % groupBlocks };
}

function mapIntent(
  id: number,
  { inode, address }: Subject,
  change: { from: number; start: number; count: number; flags: number },
): Uint8Array[] {
  const { from, start, count, flags } = change;
  const head = packed([2, INTENT.map], [2, 1], [4, 1], [8, id]);
  const mapping = packed([8, inode], [8, address + from], [8, start], [4, count], [4, flags]);
  return [Uint8Array.from([...head, ...mapping])];
}

function read(image: string): number[] {
  using device = new ImageDevice(image);
  const fileSystem = openXfs(device);
  const inode = fileSystem.lookup(fileSystem.root, new TextEncoder().encode("file"));
  ok(inode !== undefined);
  return fileSystem.map(inode, 0, 2 ** 40).map(({ kind, length }) =>
    (kind === "hole" ? -1 : 1) * length / BLOCK_BYTES
  );
}

mountTest("xfs log: announced changes of a file's blocks are shown as the kernel finishes them", async () => {
  await using folder = new TemporaryFolder();
  using kernel = new Kernel();
  const image = await cleanImage(folder.path);
  const subject = subjectOf(image);
  appendRecords(image, [
    transactionOf(1, [
      mapIntent(11, subject, { from: 2, start: 2, count: 3, flags: UNMAP }),
      mapIntent(12, subject, { from: 2, start: 20, count: 3, flags: MAP }),
      mapIntent(13, subject, { from: 8, start: 8, count: 2, flags: UNMAP }),
      mapIntent(14, subject, { from: 0, start: 0, count: 1, flags: UNMAP }),
    ]),
    transactionOf(2, [[packed([2, INTENT.mapDone], [2, 1], [4, 0], [8, 14])]]),
  ]);
  deepEqual(read(image), [2, -3, 3, -12, 3, -27]);
  await run("cp", "--sparse=always", image, `${image}.kernel`);
  await using mount = await Mount.open(`${image}.kernel`, "noatime", "xfs");
  using device = new ImageDevice(image);
  deepEqual(differences(describeTree(openXfs(device), device), kernel.describeTree(mount.path)), []);
});

mountTest("xfs log: a transaction counts from its commit on, also across records", async () => {
  await using folder = new TemporaryFolder();
  const image = await cleanImage(folder.path);
  const unmap = transactionOf(7, [
    mapIntent(1, subjectOf(image), { from: 0, start: 0, count: 1, flags: UNMAP }),
  ]);
  const other = transactionOf(8, []);
  await run("cp", "--sparse=always", image, `${image}.open`);
  appendRecords(`${image}.open`, [unmap.slice(0, -1)]);
  deepEqual(read(`${image}.open`), [10, -40]);
  // The intent's region begins in one record and ends in the next, within another transaction.
  const [start, head, item, commit] = unmap;
  ok(start !== undefined && head !== undefined && item?.data !== undefined && commit !== undefined);
  const [first, second] = [item.data.subarray(0, 20), item.data.subarray(20)];
  appendRecords(image, [
    [start, head, { ...item, flags: OPERATION.continues, data: first }, ...other.slice(0, 2)],
    [{ ...item, flags: OPERATION.wasContinued, data: second }, ...other.slice(2), commit],
  ]);
  deepEqual(read(image), [-1, 9, -40]);
});

mountTest(
  "xfs log: a torn last record and what follows it do not count, a torn old one is damage",
  async () => {
    await using folder = new TemporaryFolder();
    const image = await cleanImage(folder.path);
    const subject = subjectOf(image);
    const unmap = (start: number) =>
      transactionOf(start + 1, [
        mapIntent(start + 1, subject, { from: start, start, count: 1, flags: UNMAP }),
      ]);
    const flip = (path: string, offset: number) => {
      const file = openSync(path, "r+");
      writeSync(file, Uint8Array.of(0x5a), 0, 1, offset);
      closeSync(file);
    };
    await run("cp", "--sparse=always", image, `${image}.long`);
    const [, , third] = appendRecords(image, [unmap(0), unmap(2), unmap(4), unmap(6)]);
    ok(third !== undefined);
    deepEqual(read(image), [-1, 1, -1, 1, -1, 1, -1, 3, -40]);
    flip(image, third.offset + 600);
    deepEqual(read(image), [-1, 1, -1, 7, -40]);
    const many = appendRecords(`${image}.long`, [
      unmap(0),
      unmap(2),
      ...Array.from({ length: 9000 }, () => transactionOf(9, [])),
    ]);
    flip(`${image}.long`, (many[1]?.offset ?? 0) + 600);
    throws(
      () => read(`${image}.long`),
      (thrown) => thrown instanceof VarveError && thrown.code === "damaged",
    );
  },
);

mountTest("xfs log: files whose changes cannot be finished here are refused, and only they", async () => {
  await using folder = new TemporaryFolder();
  const image = await cleanImage(folder.path);
  const { inode } = subjectOf(image);
  const unsupported = (thrown: unknown) => thrown instanceof VarveError && thrown.code === "unsupported";
  const attribute = (operation: number) => [
    packed([2, INTENT.attribute], [2, 2], [4, 0], [8, 5], [8, inode], [4, operation], [4, 4], [4, 0], [4, 0]),
    new TextEncoder().encode("name"),
  ];
  const exchange = [
    packed([2, INTENT.exchange], [2, 1], [4, 0], [8, 6], [8, inode], [8, 999], [8, 0], [8, 0]),
  ];
  const open = async (items: Uint8Array[][]) => {
    await run("cp", "--sparse=always", image, `${image}.${items.length}`);
    appendRecords(`${image}.${items.length}`, [transactionOf(1, items)]);
    return new ImageDevice(`${image}.${items.length}`);
  };
  {
    using device = await open([attribute(4)]);
    deepEqual(openXfs(device).xattrs(inode), []);
  }
  {
    using device = await open([attribute(4), attribute(1)]);
    const fileSystem = openXfs(device);
    throws(() => fileSystem.xattrs(inode), unsupported);
    equal(fileSystem.read(inode, 0, new Uint8Array(10)), 10);
    deepEqual(fileSystem.xattrs(fileSystem.root), []);
  }
  {
    using device = await open([exchange, [], []]);
    const fileSystem = openXfs(device);
    throws(() => fileSystem.read(inode, 0, new Uint8Array(10)), unsupported);
    throws(() => fileSystem.map(inode, 0, 10), unsupported);
    equal(fileSystem.readDirectory(fileSystem.root).length, 1);
  }
  {
    using device = await open([[packed([2, 0x1299], [2, 1], [4, 0])], [], [], []]);
    throws(() => openXfs(device), unsupported);
  }
});

/** Byte of an image where its one directory in block form lies. */
function directoryBlock(image: string): { offset: number; bytes: Uint8Array } {
  using device = new ImageDevice(image);
  const bytes = new Uint8Array(BLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  for (let offset = 0; offset < device.sizeBytes; offset += BLOCK_BYTES) {
    device.read(offset, bytes);
    if (view.getUint32(0) === MAGIC.dirBlock.v5) return { offset, bytes };
  }
  throw new Error("no directory");
}

/** Logs 128 bytes of a buffer of a block's size, or that the buffer is given up. */
function bufferItem(offset: number, piece: { at: number; bytes: Uint8Array } | undefined): Uint8Array[] {
  const flags = piece === undefined ? 2 : 10 << 11;
  const words = piece === undefined ? 0 : 2 ** (piece.at / 128);
  const sectors = BLOCK_BYTES / 512;
  const regions = piece === undefined ? 1 : 2;
  const head = packed([2, 0x123c], [2, regions], [2, flags], [2, sectors], [8, offset / 512], [4, 1], [
    4,
    words,
  ]);
  return piece === undefined ? [head] : [head, piece.bytes];
}

mountTest("xfs log: a block is replayed unless it was given up later or is newer on the disk", async () => {
  await using folder = new TemporaryFolder();
  const image = await cleanImage(folder.path);
  {
    await using mount = await Mount.open(image, "defaults", "xfs");
    await Deno.mkdir(`${mount.path}/names`);
    for (let index = 10; index < 50; index++) {
      await Deno.writeTextFile(`${mount.path}/names/entry ${index}`, "");
    }
  }
  const { offset, bytes } = directoryBlock(image);
  // The replaced piece has other names of the same length; their hashes are the kernel's affair.
  const at = 256;
  const changed = bytes.slice(at, at + 128);
  for (let index = 0; index < 124; index++) {
    if (latin1(changed.subarray(index, index + 5)) === "entry") changed.set([0x45], index);
  }
  const piece = { at, bytes: changed };
  const capitals = async (name: string, transactions: Uint8Array[][][]) => {
    const copy = `${image}.${name}`;
    await run("cp", "--sparse=always", image, copy);
    appendRecords(copy, transactions.map((items, index) => transactionOf(index + 1, items)));
    using device = new ImageDevice(copy);
    const fileSystem = openXfs(device);
    const directory = fileSystem.lookup(fileSystem.root, new TextEncoder().encode("names")) ?? 0;
    const names = fileSystem.readDirectory(directory).map((entry) => latin1(entry.name));
    equal(names.length, 40);
    return names.filter((each) => each.startsWith("E")).length;
  };
  const [replay, giveUp] = [bufferItem(offset, piece), bufferItem(offset, undefined)];
  ok(await capitals("replayed", [[replay]]) > 2);
  equal(await capitals("given up", [[replay], [giveUp]]), 0);
  equal(await capitals("given up at once", [[giveUp, replay]]), 0);
  equal(await capitals("given up twice", [[giveUp], [replay], [giveUp]]), 0);
  ok(await capitals("used again", [[replay], [giveUp], [replay]]) > 2);
  {
    await using mount = await Mount.open(`${image}.given up`, "noatime", "xfs");
    const names = [...Deno.readDirSync(`${mount.path}/names`)];
    equal(names.filter(({ name }) => name.startsWith("E")).length, 0);
  }
  const view = new DataView(bytes.buffer);
  view.setUint32(DIR_HEADER.lsn, 0x7000);
  view.setUint32(DIR_HEADER.crc, checksumOf(bytes, DIR_HEADER.crc), true);
  const file = openSync(image, "r+");
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
  equal(await capitals("newer", [[replay]]), 0);
});

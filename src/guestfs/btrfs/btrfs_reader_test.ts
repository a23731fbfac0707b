import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { noise } from "../_busy_tree.ts";
import { Mount, mountTest } from "../_kernel_mount.ts";
import { ImageDevice, MemoryDevice, run, TemporaryFolder } from "../_test_support.ts";
import type { GuestFileSystem } from "../guest.ts";
import { BTRFS_READER } from "./btrfs_reader.ts";
import { INCOMPAT, OBJECT, SB, SUPERBLOCK_OFFSET } from "./format.ts";
import { nodeBytesOf, repairSuperblock, treeBlocks } from "./_images.ts";

const CONTENT = noise(5, 300_000);
const name = (text: string) => new TextEncoder().encode(text);
const failure = (code: string, message: RegExp) => (thrown: unknown) =>
  thrown instanceof VarveError && thrown.code === code && message.test(thrown.message);

/** An image with a file of random content and a compressible one. */
async function withImage(make: string[], options: string, work: (bytes: Uint8Array) => void): Promise<void> {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/image`;
  await run("truncate", "-s", "256M", image);
  await run("mkfs.btrfs", "-q", ...make, image);
  {
    await using mount = await Mount.open(image, options, "btrfs");
    Deno.writeFileSync(`${mount.path}/file`, CONTENT);
    Deno.writeFileSync(`${mount.path}/zeroes`, new Uint8Array(300_000).fill(1));
    Deno.symlinkSync("file", `${mount.path}/link`);
    Deno.mkdirSync(`${mount.path}/folder`);
  }
  work(Deno.readFileSync(image));
}

function open(bytes: Uint8Array): GuestFileSystem {
  return BTRFS_READER.open(new MemoryDevice(bytes));
}

function find(fileSystem: GuestFileSystem, text: string): number {
  const inode = fileSystem.lookup(fileSystem.root, name(text));
  if (inode === undefined) throw new Error(`${text} is missing`);
  return inode;
}

function readAll(fileSystem: GuestFileSystem, text: string): Uint8Array {
  const inode = find(fileSystem, text);
  const content = new Uint8Array(fileSystem.stat(inode).sizeBytes);
  equal(fileSystem.read(inode, 0, content), content.length);
  return content;
}

/** Places on the device where the content of a file begins. */
function placesOf(bytes: Uint8Array): number[] {
  const start = CONTENT.subarray(0, 64);
  const places: number[] = [];
  for (let at = 0; at < bytes.length; at += 4096) {
    if (start.every((byte, index) => bytes[at + index] === byte)) places.push(at);
  }
  return places;
}

mountTest("btrfs: one bad copy of metadata that are there twice does no harm, two are damage", async () => {
  await withImage(["-m", "dup"], "defaults", (bytes) => {
    const blocks = treeBlocks(bytes).filter(({ owner }) => owner === OBJECT.topSubvolume);
    const first = new Map(blocks.toReversed().map((block) => [block.bytenr, block.at]));
    const damage = (at: number) => bytes[at + 500] = (bytes[at + 500] ?? 0) ^ 1;
    for (const at of first.values()) damage(at);
    const fileSystem = open(bytes);
    deepEqual(readAll(fileSystem, "file"), CONTENT);
    equal(fileSystem.readDirectory(fileSystem.root).length, 4);
    for (const { at, bytenr } of blocks) if (first.get(bytenr) !== at) damage(at);
    throws(() => open(bytes), failure("damaged", /checksum does not match/));
  });
});

mountTest("btrfs: data that do not have their checksum are damage, unless another copy has it", async () => {
  for (const [profile, copies] of [["single", 1], ["dup", 2]] as const) {
    await withImage(["-d", profile], "defaults", (bytes) => {
      const places = placesOf(bytes);
      equal(places.length, copies);
      for (const [index, at] of places.entries()) {
        bytes[at + 8192 + 7] = (bytes[at + 8192 + 7] ?? 0) ^ 0x10;
        const fileSystem = open(bytes);
        if (index + 1 < copies) {
          deepEqual(readAll(fileSystem, "file"), CONTENT);
          continue;
        }
        throws(() => readAll(fileSystem, "file"), failure("damaged", /checksum of its sector/));
        const inode = find(fileSystem, "file");
        const part = new Uint8Array(8000);
        equal(fileSystem.read(inode, 100, part), 8000);
        deepEqual(part, CONTENT.subarray(100, 8100));
        throws(
          () => fileSystem.read(inode, 8191, new Uint8Array(2)),
          failure("damaged", /checksum of its sector/),
        );
      }
    });
  }
});

mountTest("btrfs: files that keep no checksums are read without", async () => {
  await withImage([], "nodatasum", (bytes) => {
    const [at] = placesOf(bytes);
    bytes[(at ?? 0) + 5] = (bytes[(at ?? 0) + 5] ?? 0) ^ 1;
    equal(readAll(open(bytes), "file")[5], (CONTENT[5] ?? 0) ^ 1);
  });
});

for (const compression of ["zlib", "lzo", "zstd"]) {
  mountTest(`btrfs: content that ${compression} compressed is made`, async () => {
    await withImage([], `compress-force=${compression}`, (bytes) => {
      const fileSystem = open(bytes);
      const inode = find(fileSystem, "zeroes");
      ok(fileSystem.map(inode, 0, 300_000).every(({ kind }) => kind === "made"));
      deepEqual(readAll(fileSystem, "zeroes"), new Uint8Array(300_000).fill(1));
      const part = new Uint8Array(10);
      equal(fileSystem.read(inode, 299_995, part), 5);
      deepEqual([...part], [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
      equal(fileSystem.read(inode, 300_000, part), 0);
      deepEqual(fileSystem.map(inode, 300_000, 1), []);
    });
  });
}

mountTest("btrfs: what is asked of the wrong kind of file is invalid, of none not found", async () => {
  await withImage([], "defaults", (bytes) => {
    const fileSystem = open(bytes);
    const buffer = new Uint8Array(1);
    throws(() => fileSystem.read(fileSystem.root, 0, buffer), failure("invalid", /it is a directory/));
    throws(() => fileSystem.read(find(fileSystem, "file"), -1, buffer), failure("invalid", /offset -1/));
    throws(() => fileSystem.readDirectory(find(fileSystem, "link")), failure("invalid", /it is a symlink/));
    throws(() => fileSystem.readLink(find(fileSystem, "file")), failure("invalid", /it is a file/));
    for (const inode of [0, 999, 1.5, 2 ** 35 * 7 + 256, 2 ** 60]) {
      throws(() => fileSystem.stat(inode), failure("not-found", /./));
    }
    equal(fileSystem.lookup(fileSystem.root, name("absent")), undefined);
  });
});

mountTest(
  "btrfs: features that are not known, a bad superblock and one of another place are refused",
  async () => {
    await withImage([], "defaults", (bytes) => {
      const superblock = bytes.slice(SUPERBLOCK_OFFSET, SUPERBLOCK_OFFSET + 4096);
      const view = new DataView(bytes.buffer, SUPERBLOCK_OFFSET);
      const refused = (change: () => void, code: string, message: RegExp) => {
        change();
        if (!/checksum/.test(message.source)) repairSuperblock(bytes);
        throws(() => open(bytes), failure(code, message));
        bytes.set(superblock, SUPERBLOCK_OFFSET);
      };
      const incompat = view.getUint32(SB.incompat, true);
      const feature = (bit: number) => () => view.setUint32(SB.incompat, incompat | bit, true);
      refused(feature(INCOMPAT.zoned), "unsupported", /zoned/);
      refused(feature(INCOMPAT.extentTreeV2), "unsupported", /extent-tree-v2/);
      refused(feature(INCOMPAT.raidStripeTree), "unsupported", /raid-stripe-tree/);
      refused(feature(2 ** 30), "unsupported", /unknown bits 0x40000000/);
      refused(() => view.setUint16(SB.checksumType, 9, true), "unsupported", /of type 9/);
      refused(() => view.setUint8(SB.label, 1), "damaged", /its checksum does not match/);
      refused(() => view.setUint32(SB.bytenr, 0x4000000, true), "damaged", /another place/);
      refused(() => view.setUint32(SB.nodeBytes, 12345, true), "damaged", /tree blocks of 12345 bytes/);
      refused(() => view.setUint32(SB.generation, 3, true), "damaged", /generation/);
      equal(nodeBytesOf(bytes), 16384);
      deepEqual(readAll(open(bytes), "file"), CONTENT);
    });
  },
);

mountTest("btrfs: of two devices, mirrors can be read from either, stripes cannot", async () => {
  for (const profile of ["raid1", "raid0"]) {
    await using folder = new TemporaryFolder();
    const images = [`${folder.path}/a`, `${folder.path}/b`];
    for (const image of images) await run("truncate", "-s", "256M", image);
    const loops: string[] = [];
    try {
      for (const image of images) loops.push((await run("losetup", "-f", "--show", image)).trim());
      await run("mkfs.btrfs", "-q", "-d", profile, "-m", "raid1", ...loops);
      const path = `${folder.path}/mounted`;
      await Deno.mkdir(path);
      await run("mount", "-t", "btrfs", "-o", `device=${loops[0]},device=${loops[1]}`, loops[0] ?? "", path);
      try {
        Deno.writeFileSync(`${path}/file`, CONTENT);
      } finally {
        await run("umount", path);
      }
      for (const loop of loops) await run("btrfs", "device", "scan", "--forget", loop);
    } finally {
      for (const loop of loops) await run("losetup", "-d", loop);
    }
    for (const image of images) {
      using device = new ImageDevice(image);
      const fileSystem = BTRFS_READER.open(device);
      if (profile === "raid1") deepEqual(readAll(fileSystem, "file"), CONTENT);
      else throws(() => readAll(fileSystem, "file"), failure("unsupported", /striped over several places/));
    }
  }
});

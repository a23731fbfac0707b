import { deepEqual, equal, throws } from "node:assert/strict";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { VarveError } from "../../base/errors.ts";
import { noise } from "../_busy_tree.ts";
import { ImageDevice, run, TemporaryFolder } from "../_test_support.ts";
import { Kernel, Mount, mountTest } from "../_kernel_mount.ts";
import { checksumOf } from "./checksum.ts";
import { hashName } from "./name_hash.ts";
import { openXfs } from "./xfs_reader.ts";

/** Changes the superblock of an image, whose checksum stays right. */
function changeSuperblock(image: string, change: (view: DataView) => void): void {
  const bytes = new Uint8Array(512);
  const file = openSync(image, "r+");
  readSync(file, bytes, 0, 512, 0);
  const view = new DataView(bytes.buffer);
  change(view);
  view.setUint32(224, checksumOf(bytes, 224), true);
  writeSync(file, bytes, 0, 512, 0);
  closeSync(file);
}

const REFUSED: readonly [what: string, code: string, message: RegExp, change: (view: DataView) => void][] = [
  [
    "unknown features",
    "unsupported",
    /incompat 0x100\)/,
    (view) => view.setUint32(216, view.getUint32(216) | 0x100),
  ],
  [
    "the mark of needed repair",
    "damaged",
    /xfs_repair/,
    (view) => view.setUint32(216, view.getUint32(216) | 0x10),
  ],
  ["a log elsewhere", "unsupported", /another device/, (view) => view.setBigUint64(48, 0n)],
  ["an unknown version", "unsupported", /version 6/, (view) => view.setUint16(100, view.getUint16(100) + 1)],
  ["a block size that does not exist", "damaged", /blocks of 4097/, (view) => view.setUint32(4, 4097)],
  ["more blocks than the device", "damaged", /blocks/, (view) => view.setBigUint64(8, 2n ** 40n)],
  ["another file system's log", "damaged", /belongs to another/, (view) => view.setUint8(40, 1)],
];

for (const [what, code, message, change] of REFUSED) {
  Deno.test(`xfs: a superblock with ${what} is refused`, async () => {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    await run("truncate", "-s", "300M", image);
    await run("mkfs.xfs", "-q", "-f", "-L", "a label", image);
    {
      using device = new ImageDevice(image);
      equal(openXfs(device).label, "a label");
    }
    changeSuperblock(image, change);
    using device = new ImageDevice(image);
    throws(
      () => openXfs(device),
      (thrown) => thrown instanceof VarveError && thrown.code === code && message.test(thrown.message),
    );
  });
}

Deno.test("xfs: a superblock whose checksum does not match is damaged", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/image`;
  await run("truncate", "-s", "300M", image);
  await run("mkfs.xfs", "-q", "-f", image);
  const file = openSync(image, "r+");
  writeSync(file, Uint8Array.of(1), 0, 1, 300);
  closeSync(file);
  using device = new ImageDevice(image);
  throws(() => openXfs(device), /reading the superblock: its checksum does not match/);
});

Deno.test("xfs: names have the hashes that Linux gives them", () => {
  const hash = (name: string) => hashName(new TextEncoder().encode(name));
  // `xfs_db -c "hash NAME"` says so.
  deepEqual(["a", "ab", "abc", "abcd", "longer-name"].map(hash), [
    0x61,
    0x30e2,
    0x187163,
    0xc38b1e4,
    0x3317fa40,
  ]);
});

mountTest("xfs: reading, mapping and listing what is not of that kind is invalid", async () => {
  await using folder = new TemporaryFolder();
  using kernel = new Kernel();
  const image = `${folder.path}/image`;
  await run("truncate", "-s", "300M", image);
  await run("mkfs.xfs", "-q", "-f", image);
  {
    await using mount = await Mount.open(image, "defaults", "xfs");
    Deno.writeFileSync(`${mount.path}/file`, noise(3, 10_000));
    equal(kernel.space(mount.path).blockBytes, 4096);
  }
  using device = new ImageDevice(image);
  const fileSystem = openXfs(device);
  const code = (wanted: string) => (thrown: unknown) =>
    thrown instanceof VarveError && thrown.code === wanted;
  const file = fileSystem.lookup(fileSystem.root, new TextEncoder().encode("file")) ?? 0;
  throws(() => fileSystem.readDirectory(file), code("invalid"));
  throws(() => fileSystem.lookup(file, new Uint8Array(1)), code("invalid"));
  throws(() => fileSystem.read(fileSystem.root, 0, new Uint8Array(1)), code("invalid"));
  throws(() => fileSystem.readLink(file), code("invalid"));
  throws(() => fileSystem.read(file, -1, new Uint8Array(1)), code("invalid"));
  throws(() => fileSystem.stat(0), code("not-found"));
  throws(() => fileSystem.stat(file + 1), code("not-found"));
  throws(() => fileSystem.stat(2 ** 50), code("damaged"));
  const target = new Uint8Array(100);
  equal(fileSystem.read(file, 9_990, target), 10);
  equal(fileSystem.read(file, 10_000, target), 0);
  deepEqual(fileSystem.map(file, 10_000, 5), []);
  deepEqual(fileSystem.lookup(fileSystem.root, new TextEncoder().encode("..")), undefined);
});

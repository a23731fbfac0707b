import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { VarveError } from "../base/errors.ts";
import { openGuestDisk } from "./guest_disk.ts";
import { SubDevice } from "./sub_device.ts";
import { ImageDevice, MemoryDevice, run, TemporaryFolder } from "./_test_support.ts";

const MIB = 1024 * 1024;

/** Writes a partition table by a program that reads a script, onto an image of `mebibytes`. */
async function partitioned(folder: string, mebibytes: number, script: string): Promise<string> {
  const image = `${folder}/disk`;
  await run("truncate", "-s", `${mebibytes}M`, image);
  await run("bash", "-c", `printf '${script}' | eatmydata sfdisk -q ${image}`);
  return image;
}

/** Makes an ext4 file system with one file inside an image. */
async function addExt(folder: string, image: string, offset: number, text: string): Promise<void> {
  await Deno.mkdir(`${folder}/tree`, { recursive: true });
  await Deno.writeTextFile(`${folder}/tree/text`, text);
  await run("mkfs.ext4", "-q", "-F", "-E", `offset=${offset}`, "-d", `${folder}/tree`, image, "8M");
}

/** Name, offset and length of each partition, and the text of the file in it or why there is none. */
function summary(image: string): { table: string; partitions: unknown[] } {
  using device = new ImageDevice(image);
  const { table, partitions } = openGuestDisk(device);
  return {
    table,
    partitions: partitions.map(({ name, pieces, fileSystem, reason }) => {
      const [{ offset = 0, length = 0 } = {}] = pieces;
      equal(fileSystem === undefined, reason !== undefined);
      const inode = fileSystem?.lookup(fileSystem.root, new TextEncoder().encode("text"));
      if (fileSystem === undefined || inode === undefined) return [name, offset, length, reason];
      const target = new Uint8Array(100);
      const text = new TextDecoder().decode(target.subarray(0, fileSystem.read(inode, 0, target)));
      return [name, offset, length, text];
    }),
  };
}

const GPT = "label: gpt\\nstart=2048,size=20480\\nstart=40960,size=2048\\nstart=43008,size=20480\\n";

async function gptDisk(folder: string): Promise<string> {
  const image = await partitioned(folder, 48, GPT);
  await run("eatmydata", "sgdisk", "-d", "2", image);
  await addExt(folder, image, 1 * MIB, "first");
  await addExt(folder, image, 21 * MIB, "third");
  return image;
}

const GPT_SUMMARY = {
  table: "gpt",
  partitions: [["p1", MIB, 10 * MIB, "first"], ["p3", 21 * MIB, 10 * MIB, "third"]],
};

Deno.test("guest disk: a GPT gives its partitions by their slots", async () => {
  await using folder = new TemporaryFolder();
  deepEqual(summary(await gptDisk(folder.path)), GPT_SUMMARY);
});

Deno.test("guest disk: a damaged first GPT header gives way to the backup", async () => {
  await using folder = new TemporaryFolder();
  const image = await gptDisk(folder.path);
  const bytes = readFileSync(image);
  bytes[512 + 40] = 0x77;
  writeFileSync(image, bytes);
  deepEqual(summary(image), GPT_SUMMARY);
});

Deno.test("guest disk: two damaged GPT headers are told as such", async () => {
  await using folder = new TemporaryFolder();
  const image = await gptDisk(folder.path);
  const bytes = readFileSync(image);
  bytes[512 + 40] = 0x77;
  bytes[bytes.length - 512 + 40] = 0x77;
  writeFileSync(image, bytes);
  const reason = "reading the partition table: both copies of the GPT are damaged";
  deepEqual(summary(image), { table: "none", partitions: [["", 0, 48 * MIB, reason]] });
});

Deno.test("guest disk: a GPT may count in sectors of 4096 bytes", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/disk`;
  await run("truncate", "-s", "32M", image);
  const loop = (await run("losetup", "-f", "--show", "-b", "4096", image)).trim();
  try {
    await run("eatmydata", "sgdisk", "-n", "1:256:+8M", loop);
  } finally {
    await run("losetup", "-d", loop);
  }
  await addExt(folder.path, image, MIB, "wide");
  deepEqual(summary(image), { table: "gpt", partitions: [["p1", MIB, 8 * MIB, "wide"]] });
});

Deno.test("guest disk: an MBR gives primary and logical partitions, not the extended one", async () => {
  await using folder = new TemporaryFolder();
  const image = await partitioned(
    folder.path,
    64,
    "label: dos\\nstart=2048,size=20480,type=83\\nstart=22528,size=100000,type=5\\n" +
      "start=24576,size=20480,type=83\\nstart=47104,size=20480,type=83\\n",
  );
  await addExt(folder.path, image, MIB, "primary");
  await addExt(folder.path, image, 23 * MIB, "logical");
  deepEqual(summary(image), {
    table: "mbr",
    partitions: [
      ["p1", MIB, 10 * MIB, "primary"],
      ["p5", 12 * MIB, 10 * MIB, "nothing has been written here yet"],
      ["p6", 23 * MIB, 10 * MIB, "logical"],
    ],
  });
});

Deno.test("guest disk: a chain of logical partitions that leads back to itself ends", async () => {
  await using folder = new TemporaryFolder();
  const image = await partitioned(
    folder.path,
    32,
    "label: dos\\nstart=2048,size=60000,type=5\\nstart=4096,size=2048\\nstart=8192,size=2048\\n",
  );
  const bytes = readFileSync(image);
  const second = new DataView(bytes.buffer, bytes.byteOffset).getUint32(2048 * 512 + 446 + 16 + 8, true);
  ok(second > 0);
  const table = (2048 + second) * 512;
  bytes[table + 446 + 16 + 4] = 5;
  bytes[table + 446 + 16 + 12] = 1;
  writeFileSync(image, bytes);
  const { partitions } = summary(image);
  equal(partitions.length, 2);
});

Deno.test("guest disk: a partition beyond the end of the disk is told as such", async () => {
  await using folder = new TemporaryFolder();
  const image = await partitioned(
    folder.path,
    32,
    "label: dos\\nstart=2048,size=4096\\nstart=8192,size=40000\\n",
  );
  await run("truncate", "-s", "10M", image);
  deepEqual(summary(image).partitions[1], [
    "p2",
    4 * MIB,
    40000 * 512,
    "the partition reaches beyond the end of the disk",
  ]);
});

Deno.test("guest disk: a table without entries has no partitions", async () => {
  await using folder = new TemporaryFolder();
  deepEqual(summary(await partitioned(folder.path, 16, "label: dos\\n")), { table: "mbr", partitions: [] });
  deepEqual(summary(await partitioned(folder.path, 16, "label: gpt\\n")), { table: "gpt", partitions: [] });
});

Deno.test("guest disk: a file system on the whole disk is found, even behind a boot sector", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/disk`;
  await run("truncate", "-s", "8M", image);
  await addExt(folder.path, image, 0, "whole");
  const expected = { table: "none", partitions: [["", 0, 8 * MIB, "whole"]] };
  deepEqual(summary(image), expected);
  const bytes = readFileSync(image);
  bytes.set([0x55, 0xaa], 510);
  writeFileSync(image, bytes);
  deepEqual(summary(image), expected);
});

Deno.test("guest disk: a damaged superblock is told as such", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/disk`;
  await run("truncate", "-s", "8M", image);
  await addExt(folder.path, image, 0, "whole");
  const bytes = readFileSync(image);
  bytes[1024 + 0x78] = 0x41;
  writeFileSync(image, bytes);
  deepEqual(summary(image).partitions, [
    [
      "",
      0,
      8 * MIB,
      "it holds an ext file system, which cannot be opened: reading the superblock: its checksum does not match",
    ],
  ]);
});

Deno.test("guest disk: zeroes and noise are told apart", () => {
  const reasonOf = (bytes: Uint8Array) => openGuestDisk(new MemoryDevice(bytes)).partitions[0]?.reason;
  equal(reasonOf(new Uint8Array(5 * MIB)), "nothing has been written here yet");
  equal(reasonOf(new Uint8Array(5 * MIB).fill(7)), "no known file system");
  equal(reasonOf(new Uint8Array(0)), "nothing has been written here yet");
  equal(reasonOf(new Uint8Array(100).fill(1)), "no known file system");
});

// What stands behind the name says what can be done instead.
const NAMED: readonly [what: string, offset: number, magic: string][] = [
  ["a LUKS encrypted volume, whose key is the guest's", 0, "LUKS\xba\xbe"],
  ["a LUKS1 encrypted volume, whose key is the guest's", 0, "LUKS\xba\xbe\0\x01"],
  ["a LUKS2 encrypted volume, whose key is the guest's", 0, "LUKS\xba\xbe\0\x02"],
  ["a LUKS2 encrypted volume whose first header is damaged", 16384, "SKUL\xba\xbe"],
  ["a BitLocker encrypted volume, whose key is the guest's", 3, "-FVE-FS-"],
  ["an LVM2 physical volume whose label is damaged", 536, "LVM2 001"],
  ["swap space, which holds no files", 4086, "SWAPSPACE2"],
  ["swap space, which holds no files", 65526, "SWAPSPACE2"],
  ["a hibernated system's memory in its swap space, which holds no files", 4086, "S1SUSPEND"],
  ["a member of a ZFS pool, whose content is spread", 16404, "\0\0\0\x07version"],
  [
    "a bcache cache, whose content is spread",
    4120,
    "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
  ],
  [
    "a bcache backing device, whose content",
    4112,
    "\x01\0\0\0\0\0\0\0\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
  ],
  ["an F2FS file system, which Varve cannot browse yet", 1024, "\x10\x20\xf5\xf2"],
  ["an EROFS file system, which Varve cannot browse yet", 1024, "\xe2\xe1\xf5\xe0"],
  ["a ReiserFS file system, which Varve cannot browse yet", 0x10034, "ReIsEr2Fs"],
  ["a JFS file system, which Varve cannot browse yet", 0x8000, "JFS1"],
  ["an HFS+ file system, which Varve cannot browse yet", 1024, "H+\0\x04"],
  ["an APFS container, which Varve cannot browse yet", 32, "NXSB"],
  ["a UFS2 file system, which Varve cannot browse yet", 0x1055c, "\x19\x01\x54\x19"],
  ["a UDF file system, which Varve cannot browse yet", 0x8001, "BEA01"],
  ["a VMFS volume, whose content is spread", 0x100000, "\x0d\xd0\x01\xc0"],
  ["a Ceph BlueStore device, whose content is spread", 0, "bluestore block device\n"],
];

for (const [what, offset, magic] of NAMED) {
  Deno.test(`guest disk: ${what} (at ${offset}): is named, and how it can be used`, () => {
    const bytes = new Uint8Array(2 * MIB);
    bytes.set(Uint8Array.from(magic, (character) => character.charCodeAt(0)), offset);
    const { table, partitions: [partition] } = openGuestDisk(new MemoryDevice(bytes));
    equal(table, "none");
    const reason = `${partition?.reason}`;
    ok(reason.startsWith(`the partition holds ${what}`) && reason.includes("images/"), reason);
  });
}

Deno.test("guest disk: what cryptsetup and mkswap make is named", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/disk`;
  await Deno.writeTextFile(`${folder.path}/key`, "key");
  for (const version of [1, 2]) {
    await run("truncate", "-s", "0", image);
    await run("truncate", "-s", "20M", image);
    const fast = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "-q", "--disable-locks"];
    await run("cryptsetup", "luksFormat", "--type", `luks${version}`, ...fast, image, `${folder.path}/key`);
    const [[, , , reason] = []] = summary(image).partitions as string[][];
    ok(reason?.startsWith(`the partition holds a LUKS${version} encrypted volume`), reason);
  }
  await run("truncate", "-s", "0", image);
  await run("truncate", "-s", "1M", image);
  await run("mkswap", image);
  const [[, , , reason] = []] = summary(image).partitions as string[][];
  ok(reason?.startsWith("the partition holds swap space"), reason);
});

Deno.test("sub-device: reads its window and nothing beyond, and is never written", () => {
  const parent = new MemoryDevice(Uint8Array.from({ length: 100 }, (_, index) => index));
  const device = new SubDevice(parent, 10, 20);
  const target = new Uint8Array(3);
  device.read(17, target);
  deepEqual([...target], [27, 28, 29]);
  deepEqual(device.extents(5, 10), [{ offset: 5, length: 10, kind: "data" }]);
  const code = (wanted: string) => (thrown: unknown) =>
    thrown instanceof VarveError && thrown.code === wanted;
  throws(() => device.read(18, target), code("out-of-range"));
  throws(() => device.read(-1, target), code("out-of-range"));
  throws(() => device.write(), code("read-only"));
  throws(() => device.trim(), code("read-only"));
  throws(() => device.zero(), code("read-only"));
  throws(() => new SubDevice(parent, 90, 11), code("out-of-range"));
});

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { openGuestDisk } from "./guest_disk.ts";
import { MemoryDevice, run, TemporaryFolder } from "./_test_support.ts";
import { random } from "./_hostile.ts";
import { groupText, linear, logicalText, writePhysicalVolume } from "./lvm/_metadata_writer.ts";

const MIB = 1024 * 1024;
const DATA_OFFSET = 2 * MIB;

interface Member {
  /** Byte offset of the superblock: 0 is version 1.1, 4096 is 1.2. */
  readonly offset: number;
  readonly level: number;
  readonly features?: number;
  /** Role of this member; 0xffff is a spare. */
  readonly role?: number;
}

/** Writes the superblock of one of two members, whose data begin at 2 MiB and go on to the end. */
function writeMember(image: Uint8Array, { offset, level, features = 0, role = 1 }: Member): void {
  const superblock = new Uint8Array(256 + 128 * 2);
  const view = new DataView(superblock.buffer);
  view.setUint32(0, 0xa92b4efc, true);
  view.setUint32(4, 1, true);
  view.setUint32(8, features, true);
  superblock.fill(7, 16, 32);
  superblock.set(new TextEncoder().encode("host:0"), 32);
  view.setInt32(72, level, true);
  const sectors = BigInt((image.length - DATA_OFFSET) / 512);
  view.setBigUint64(80, sectors, true);
  view.setUint32(92, 2, true);
  view.setBigUint64(128, BigInt(DATA_OFFSET / 512), true);
  view.setBigUint64(136, sectors, true);
  view.setBigUint64(144, BigInt(offset / 512), true);
  view.setUint32(160, 1, true);
  view.setUint32(220, 128, true);
  for (let at = 256; at < superblock.length; at += 2) view.setUint16(at, 0xffff, true);
  view.setUint16(256, 0, true);
  view.setUint16(258, role, true);
  let sum = 0n;
  for (let at = 0; at < superblock.length; at += 4) sum += BigInt(view.getUint32(at, true));
  view.setUint32(216, Number((sum & 0xffffffffn) + (sum >> 32n)), true);
  image.set(superblock, offset);
}

async function extImage(folder: string, mebibytes: number): Promise<Uint8Array> {
  const path = `${folder}/ext`;
  await run("truncate", "-s", `${mebibytes}M`, path);
  await run("mkfs.ext4", "-q", "-F", "-L", "inside", path);
  return await Deno.readFile(path);
}

for (const [version, offset] of [["1.1", 0], ["1.2", 4096]] as const) {
  Deno.test(`md: a member of a mirror of metadata ${version} is read through, as mdadm sees it`, async () => {
    await using folder = new TemporaryFolder();
    const image = new Uint8Array(10 * MIB);
    image.set(await extImage(folder.path, 8), DATA_OFFSET);
    writeMember(image, { offset, level: 1 });
    await Deno.writeFile(`${folder.path}/member`, image);
    const examined = await run("mdadm", "--examine", `${folder.path}/member`);
    match(examined, new RegExp(`Version : ${version}`));
    match(examined, /Checksum : [0-9a-f]+ - correct/);
    match(examined, /Data Offset : 4096 sectors/);
    const [partition, ...others] = openGuestDisk(new MemoryDevice(image)).partitions;
    equal(others.length, 0);
    equal(partition?.fileSystem?.label, "inside");
    deepEqual(partition.pieces, [{ offset: DATA_OFFSET, length: 8 * MIB }]);
  });
}

Deno.test("md: logical volumes in a mirror are found", async () => {
  await using folder = new TemporaryFolder();
  const image = new Uint8Array(16 * MIB);
  const inner = image.subarray(DATA_OFFSET);
  writePhysicalVolume(inner, groupText(logicalText("root", [[8, linear("pv0", 2)]])));
  inner.set(await extImage(folder.path, 8), 3 * MIB);
  writeMember(image, { offset: 4096, level: 1 });
  const { partitions } = openGuestDisk(new MemoryDevice(image));
  deepEqual(partitions.map(({ name, fileSystem, pieces }) => [name, fileSystem?.label, pieces]), [
    ["root", "inside", [{ offset: DATA_OFFSET + 3 * MIB, length: 8 * MIB }]],
  ]);
});

Deno.test("md: metadata at the end leave the file system where it begins", async () => {
  await using folder = new TemporaryFolder();
  const image = new Uint8Array(9 * MIB);
  image.set(await extImage(folder.path, 8));
  writeMember(image, { offset: 0, level: 1 });
  image.copyWithin(image.length - 8192, 0, 512);
  image.fill(0, 0, 512);
  equal(openGuestDisk(new MemoryDevice(image)).partitions[0]?.fileSystem?.label, "inside");
  image.fill(0, 0, MIB);
  match(`${openGuestDisk(new MemoryDevice(image)).partitions[0]?.reason}`, /md RAID1 \(metadata 1\.0\)/);
});

const OTHERS: readonly [what: string, member: Member, found: RegExp][] = [
  [
    "a RAID5",
    { offset: 4096, level: 5 },
    /holds a member of an md RAID5 \(metadata 1\.2\), of which .*images\//,
  ],
  ["a linear array", { offset: 0, level: -1 }, /a member of an md linear array \(metadata 1\.1\)/],
  ["a spare of a mirror", { offset: 4096, level: 1, role: 0xffff }, /RAID1 \(metadata 1\.2\)/],
  ["a member that is being rebuilt", { offset: 4096, level: 1, features: 2 }, /RAID1/],
];

for (const [what, member, found] of OTHERS) {
  Deno.test(`md: ${what} is named and not read through`, () => {
    const image = new Uint8Array(4 * MIB);
    writeMember(image, member);
    match(`${openGuestDisk(new MemoryDevice(image)).partitions[0]?.reason}`, found);
  });
}

Deno.test("md: 1,000 damaged superblocks give answers or reasons", () => {
  const clean = new Uint8Array(4 * MIB);
  writeMember(clean, { offset: 4096, level: 1 });
  const head = clean.slice(0, 8192);
  for (let seed = 1; seed <= 1000; seed++) {
    const next = random(seed);
    clean.set(head);
    const at = 4096 + next(512);
    clean[at] = next(256);
    const view = new DataView(clean.buffer, 4096, 512);
    view.setUint32(216, 0, true);
    let sum = 0n;
    for (let word = 0; word < 512; word += 4) sum += BigInt(view.getUint32(word, true));
    view.setUint32(216, Number((sum & 0xffffffffn) + (sum >> 32n)), true);
    const [partition] = openGuestDisk(new MemoryDevice(clean)).partitions;
    ok(partition?.reason !== undefined, `seed ${seed}`);
  }
});

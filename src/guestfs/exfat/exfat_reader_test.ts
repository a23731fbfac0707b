import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { ImageDevice, MemoryDevice, TemporaryFolder } from "../_test_support.ts";
import { decodeName, encodeName } from "../fat/name.ts";
import { Patch } from "../fat/testing.ts";
import type { GuestFileSystem } from "../guest.ts";
import { makeExfat } from "./_exfat_mount.ts";
import { ExfatImage } from "./_image.ts";
import { sealSet } from "./_sums.ts";
import { EXFAT_READER, openExfat } from "./exfat_reader.ts";

const ROOT = 1;
const END = 0xffffffff;
const open = (image: ExfatImage) => openExfat(new MemoryDevice(image.bytes));
const find = (fileSystem: GuestFileSystem, name: string, directory = ROOT) =>
  fileSystem.lookup(directory, encodeName(name));
const namesOf = (fileSystem: GuestFileSystem, directory = ROOT) =>
  fileSystem.readDirectory(directory).map(({ name }) => decodeName(name));
const inodeOf = (offset: number) => offset / 32 * 2;
const refused = (code: string, text: string) => (thrown: unknown) =>
  thrown instanceof VarveError && thrown.code === code && thrown.message.includes(text);

Deno.test("exfat: names are found in any case by the guest's own table", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  const [upper = 0, lower = 0, other = 0] = image.writeSets(
    image.freeOffset,
    { name: "ÉTÉ" },
    { name: "été" },
    { name: "Other" },
  );
  const fileSystem = open(image);
  deepEqual(["ÉTÉ", "été", "éTÉ", "oTHER", "o"].map((name) => find(fileSystem, name)), [
    inodeOf(upper),
    inodeOf(lower),
    inodeOf(upper),
    inodeOf(other),
    undefined,
  ]);
  // A table by which T is the capital of O.
  const upCase = image.offsetOf(image.rootCluster) + 64;
  equal(image.bytes[upCase], 0x82);
  const table = image.offsetOf(image.view.getUint32(upCase + 20, true));
  const length = image.view.getUint32(upCase + 24, true);
  image.view.setUint16(table + 2 * 0x4f, 0x54, true);
  const damaged = open(image);
  equal(find(damaged, "oTHER"), inodeOf(other));
  equal(find(damaged, "TTHER"), undefined);
  let sum = 0n;
  for (const byte of image.bytes.subarray(table, table + length)) {
    sum = (((sum & 1n) << 31n) | (sum >> 1n)) + BigInt(byte) & 0xffffffffn;
  }
  image.view.setUint32(upCase + 4, Number(sum), true);
  equal(find(open(image), "TTHER"), inodeOf(other));
});

Deno.test("exfat: what was never written of a file is zeroes, whatever lies there", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  const [set = 0] = image.writeSets(image.freeOffset, {
    name: "valid",
    cluster: 100,
    sizeBytes: 3000,
    validBytes: 700,
    contiguous: true,
  });
  image.bytes.fill(7, image.offsetOf(100), image.offsetOf(110));
  const fileSystem = open(image);
  const inode = inodeOf(set);
  const target = new Uint8Array(4000);
  equal(fileSystem.read(inode, 0, target), 3000);
  deepEqual([target[0], target[699], target[700], target[2999]], [7, 7, 0, 0]);
  equal(fileSystem.read(inode, 1000, target.fill(1, 0, 10).subarray(0, 10)), 10);
  deepEqual([...target.subarray(0, 10)], Array(10).fill(0));
  deepEqual(fileSystem.map(inode, 600, 1000), [
    { kind: "stored", length: 100, deviceOffset: image.offsetOf(101) + 88 },
    { kind: "hole", length: 900 },
  ]);
  deepEqual(fileSystem.map(inode, 700, 5000), [{ kind: "hole", length: 2300 }]);
  deepEqual(fileSystem.map(inode, 3000, 5000), []);
});

Deno.test("exfat: clusters follow the FAT, or each other where the entry says so", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  const file = { cluster: 100, sizeBytes: 1500 };
  const [chained = 0, contiguous = 0] = image.writeSets(
    image.freeOffset,
    { name: "chained", ...file },
    { name: "contiguous", ...file, contiguous: true },
  ).map(inodeOf);
  image.link(100, 200);
  image.link(200, 100);
  const fileSystem = open(image);
  const stored = (cluster: number, length: number) => ({
    kind: "stored",
    length,
    deviceOffset: image.offsetOf(cluster),
  });
  deepEqual(fileSystem.map(contiguous, 0, 2000), [stored(100, 1500)]);
  deepEqual(fileSystem.map(chained, 0, 2000), [stored(100, 512), stored(200, 512)]);
  const target = new Uint8Array(1500);
  throws(() => fileSystem.read(chained, 0, target), refused("damaged", "comes back to cluster 100"));
  equal(fileSystem.read(chained, 0, target.subarray(0, 1024)), 1024);
  image.link(200, 201);
  equal(open(image).read(chained, 0, target), 1500);
  image.link(200, END);
  throws(() => open(image).read(chained, 0, target), refused("damaged", "ends after 2 of 3 clusters"));
  image.link(200, 0xfffffff7);
  throws(() => open(image).read(chained, 0, target), refused("damaged", "marked bad"));
});

Deno.test("exfat: entries that go on in another cluster are found from the number alone", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  const directory = { attributes: 0x10, cluster: 100, sizeBytes: 1024 };
  const [chained = 0, contiguous = 0] = image.writeSets(
    image.freeOffset,
    { name: "chained", ...directory },
    { name: "contiguous", ...directory, contiguous: true },
  ).map(inodeOf);
  image.link(100, 200);
  image.link(200, END);
  // Fourteen entries of the first cluster are deleted; the set begins in its last two.
  image.bytes.fill(5, image.offsetOf(100), image.offsetOf(101) - 64);
  image.writeSets(image.offsetOf(101) - 64, { name: "follows", sizeBytes: 0 });
  const rest = image.bytes.slice(image.offsetOf(101), image.offsetOf(102));
  image.bytes.set(rest, image.offsetOf(200));
  deepEqual(namesOf(open(image), chained), ["follows"]);
  for (const [parent, bit] of [[chained, 0], [contiguous, 1]] as const) {
    const inode = inodeOf(image.offsetOf(101) - 64) + bit;
    equal(find(open(image), "FOLLOWS", parent), inode);
    equal(open(image).stat(inode).inode, inode);
  }
  image.bytes.fill(0, image.offsetOf(101), image.offsetOf(102));
  equal(open(image).stat(inodeOf(image.offsetOf(101) - 64)).type, "file");
  throws(() => open(image).stat(inodeOf(image.offsetOf(101) - 64) + 1), refused("damaged", "checksum"));
});

Deno.test("exfat: a file whose checksum does not match is named, and its use is refused", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  const [bad = 0, good = 0] = image.writeSets(image.freeOffset, { name: "bad" }, { name: "good" });
  image.bytes[bad + 4] = 0x21;
  const fileSystem = open(image);
  deepEqual(namesOf(fileSystem), ["bad", "good"]);
  equal(find(fileSystem, "bad"), inodeOf(bad));
  throws(() => fileSystem.stat(inodeOf(bad)), refused("damaged", "checksum"));
  throws(() => fileSystem.read(inodeOf(bad), 0, new Uint8Array(1)), refused("damaged", "checksum"));
  equal(fileSystem.stat(inodeOf(good)).mode, 0o755);
});

Deno.test("exfat: entries that are no whole set make a directory damaged, and the names beside them are found", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  const [bad = 0, good = 0] = image.writeSets(image.freeOffset, { name: "bad" }, { name: "good" });
  const whole = image.bytes.slice(bad, bad + 96);
  const changes: readonly [at: number, value: number, text: string][] = [
    [1, 0, "not complete"],
    [1, 1, "not complete"],
    [1, 3, "not complete"],
    [32, 0xc1, "no name"],
    [32, 0x40, "not complete"],
    [35, 0, "no name"],
    [35, 16, "no name"],
    [64, 0xc0, "no name"],
    [64, 0x83, "not complete"],
  ];
  for (const [at, value, text] of changes) {
    image.bytes[bad + at] = value;
    image.seal(bad);
    const fileSystem = open(image);
    throws(() => fileSystem.readDirectory(ROOT), refused("damaged", text));
    equal(find(fileSystem, "GOOD"), inodeOf(good), `${at}: ${value}`);
    throws(() => find(fileSystem, "bad"), refused("damaged", text));
    image.bytes.set(whole, bad);
  }
  const contradictions: readonly [at: number, value: number, text: string][] = [
    [40, 1, "1 of 0 bytes are valid"],
    [63, 0x20, "exceeds 2^53"],
  ];
  for (const [at, value, text] of contradictions) {
    image.bytes[bad + at] = value;
    image.seal(bad);
    deepEqual(namesOf(open(image)), ["bad", "good"]);
    throws(() => open(image).stat(inodeOf(bad)), refused("damaged", text));
    image.bytes.set(whole, bad);
  }
});

Deno.test("exfat: times have 10 ms and a distance from UTC, which is none when it is not known", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  const [set = 0] = image.writeSets(image.freeOffset, { name: "times" });
  const stamp = ((2026 - 1980) << 25) | (11 << 21) | (26 << 16) | (8 << 11) | (30 << 5) | 29;
  for (const at of [8, 12, 16]) image.view.setUint32(set + at, stamp, true);
  image.bytes.set([199, 1], set + 20);
  // + 5:45, - 3:30, and one that does not count.
  image.bytes.set([0x80 | 23, 0x80 | (128 - 14), 0x14], set + 22);
  image.seal(set);
  const { bornNs, modifiedNs, accessedNs, changedNs } = open(image).stat(inodeOf(set));
  const ns = (text: string) => BigInt(Date.parse(text)) * 1_000_000n;
  equal(bornNs, ns("2026-11-26T02:45:59.990Z"));
  equal(modifiedNs, ns("2026-11-26T12:00:58.010Z"));
  equal(accessedNs, ns("2026-11-26T08:30:58Z"));
  equal(changedNs, modifiedNs);
});

Deno.test("exfat: the boot region must match its checksum and make sense", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  const whole = image.bytes.slice(0, 12 * 512);
  const refuse = (at: number, value: number, code: string, text: string, seal = true) => {
    image.bytes[at] = value;
    if (seal) image.sealBoot();
    throws(() => open(image), refused(code, text), `${at}: ${value}`);
    image.bytes.set(whole);
  };
  refuse(11 * 512 + 300, 1, "damaged", "checksum", false);
  refuse(5 * 512 + 100, 1, "damaged", "checksum", false);
  refuse(101, 1, "damaged", "checksum", false);
  refuse(60, 1, "damaged", "none of exFAT");
  refuse(510, 0, "damaged", "55 aa");
  refuse(81, 0, "damaged", "a FAT at sector 0");
  refuse(84, 1, "damaged", "a FAT of");
  refuse(89, 8, "damaged", "within the FAT");
  refuse(73, 16, "damaged", "clusters of 512 bytes");
  refuse(96, 1, "damaged", "a root directory in cluster");
  refuse(105, 2, "unsupported", "revision 2.0");
  refuse(108, 8, "damaged", "sectors of 2^8 bytes");
  refuse(109, 17, "damaged", "clusters of 2^26 bytes");
  refuse(110, 3, "damaged", "3 FATs");
  // What changes while the disk is in use is not in the checksum.
  image.bytes.set([2, 0], 106);
  image.bytes[112] = 77;
  equal(open(image).label, "Väl😀");
  equal(EXFAT_READER.looksLike(new MemoryDevice(image.bytes)), true);
  throws(
    () => openExfat(new MemoryDevice(image.bytes.slice(0, 1000))),
    refused("damaged", "the device has 1000"),
  );
});

Deno.test("exfat: free space is what the bitmap says, and what was noted when there is none", async () => {
  await using folder = new TemporaryFolder();
  const image = await ExfatImage.make(folder.path);
  // So that the last byte of the bitmap has bits that stand for nothing.
  const clusters = image.view.getUint32(92, true) - 3;
  image.view.setUint32(92, clusters, true);
  image.sealBoot();
  const before = open(image).space;
  ok(clusters % 8 !== 0);
  equal(before.blocks, clusters);
  const entry = image.offsetOf(image.rootCluster) + 32;
  equal(image.bytes[entry], 0x81);
  const bitmap = image.offsetOf(image.view.getUint32(entry + 20, true));
  image.bytes[bitmap + 50] = 0b0101_0001;
  image.bytes[bitmap + Math.ceil(clusters / 8) - 1] = 0xff << (clusters % 8);
  equal(open(image).space.freeBlocks, before.freeBlocks - 3);
  image.bytes[entry] = 0x01;
  image.bytes[112] = 25;
  equal(open(image).space.freeBlocks, Math.floor(clusters * 0.75));
});

Deno.test("exfat: a file beyond 4 GiB is read at its end", async () => {
  await using folder = new TemporaryFolder();
  const path = `${folder.path}/large`;
  await makeExfat(path, "9G", ["-c", "128K"]);
  const sizeBytes = 2 ** 33 + 5;
  const validBytes = 2 ** 32 + 70_001;
  let inode = 0;
  let start = 0;
  {
    using file = await Deno.open(path, { read: true, write: true });
    const boot = new Uint8Array(512);
    file.readSync(boot);
    const view = new DataView(boot.buffer);
    const heap = view.getUint32(88, true) * 512;
    const set = heap + (view.getUint32(96, true) - 2) * 131_072 + 96;
    const bytes = new Uint8Array(96);
    bytes.set([0x85, 2, 0, 0, 0x20]);
    bytes.set([0xc0, 3, 0, 1], 32);
    bytes.set([0xc1, 0, 0x78], 64);
    const entry = new DataView(bytes.buffer);
    entry.setBigUint64(40, BigInt(validBytes), true);
    entry.setUint32(52, 10, true);
    entry.setBigUint64(56, BigInt(sizeBytes), true);
    sealSet(bytes, new Patch(bytes), 0);
    const write = (at: number, part: Uint8Array) => {
      file.seekSync(at, Deno.SeekMode.Start);
      file.writeSync(part);
    };
    write(set, bytes);
    start = heap + 8 * 131_072;
    write(start + validBytes - 3, Uint8Array.of(1, 2, 3, 4));
    inode = inodeOf(set);
  }
  using device = new ImageDevice(path);
  const fileSystem = openExfat(device);
  equal(find(fileSystem, "X"), inode);
  equal(fileSystem.stat(inode).sizeBytes, sizeBytes);
  const target = new Uint8Array(10).fill(9);
  equal(fileSystem.read(inode, validBytes - 4, target), 10);
  deepEqual([...target], [0, 1, 2, 3, 0, 0, 0, 0, 0, 0]);
  equal(fileSystem.read(inode, sizeBytes - 4, target.fill(9)), 4);
  deepEqual([...target], [0, 0, 0, 0, 9, 9, 9, 9, 9, 9]);
  deepEqual(fileSystem.map(inode, 0, 2 ** 40), [
    { kind: "stored", length: validBytes, deviceOffset: start },
    { kind: "hole", length: sizeBytes - validBytes },
  ]);
});

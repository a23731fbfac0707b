import { deepEqual, equal, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { ImageDevice, MemoryDevice, TemporaryFolder } from "../_test_support.ts";
import type { GuestFileSystem } from "../guest.ts";
import { openGuestDisk } from "../guest_disk.ts";
import { FatImage } from "./_image.ts";
import { makeFat } from "./_mtools.ts";
import { FAT_READER, openFat } from "./fat_reader.ts";
import { decodeName, encodeName } from "./name.ts";

const open = (image: FatImage) => openFat(new MemoryDevice(image.bytes));
const find = (fileSystem: GuestFileSystem, name: string) =>
  fileSystem.lookup(fileSystem.root, encodeName(name));
const namesOf = (fileSystem: GuestFileSystem) =>
  fileSystem.readDirectory(fileSystem.root).map(({ name }) => decodeName(name));
const refused = (code: string, text: string) => (thrown: unknown) =>
  thrown instanceof VarveError && thrown.code === code && thrown.message.includes(text);

Deno.test("fat: names are found in any case, the exact one first, and by their short form last", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 12, "720K");
  const [upper, lower, long, alias, other] = image.writeEntries(
    image.rootOffset,
    { short: "E1         ", long: "ÉTÉ.TXT" },
    { short: "E2         ", long: "été.txt" },
    { short: "LONGNA~1TXT", long: "Long Name.Txt" },
    { short: "SOME       ", long: "a~1" },
    { short: "A~1        " },
  );
  const fileSystem = open(image);
  deepEqual([find(fileSystem, "ÉTÉ.TXT"), find(fileSystem, "été.txt"), find(fileSystem, "Été.txt")], [
    upper,
    lower,
    upper,
  ]);
  deepEqual([find(fileSystem, "LONG NAME.TXT"), find(fileSystem, "longna~1.txt")], [long, long]);
  deepEqual([find(fileSystem, "a~1"), find(fileSystem, "A~1"), find(fileSystem, "Some")], [
    alias,
    other,
    alias,
  ]);
  equal(find(fileSystem, "nothing"), undefined);
  equal(fileSystem.lookup(1, Uint8Array.of(0xff)), undefined);
});

Deno.test("fat: short names have a code page, lower case of their own, and a stand-in for 0xe5", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 12, "720K");
  image.writeEntries(
    image.rootOffset,
    { short: "\x05BC\x90    \x9aX " },
    { short: "BASE    EXT", lower: 8 },
    { short: "BASE2   EXT", lower: 16 },
    { short: "\x90       TXT", lower: 24 },
    { short: "NOEXT      " },
    { short: "A B     C D" },
    { short: "\xe5ELETED TXT" },
    { short: "LABEL      ", attributes: 8 },
    { short: ".          ", attributes: 16 },
    { short: "..         ", attributes: 16 },
  );
  deepEqual(namesOf(open(image)), ["σBCÉ.ÜX", "base.EXT", "BASE2.ext", "é.txt", "NOEXT", "A B.C D"]);
});

Deno.test("fat: a long name counts when it is whole and meant for the entry behind it", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 12, "720K");
  const { rootOffset, bytes } = image;
  image.writeEntries(
    rootOffset,
    { short: "GOOD       ", long: "x".repeat(255) },
    { short: "SUM        ", long: "wrong sum", wrongSum: 1 },
    { short: "GAP        ", long: "y".repeat(30) },
    { short: "ORDER      ", long: "z".repeat(30) },
    { short: "EMOJI      ", long: "😀\ud83d" },
    { short: "DOT        ", long: ".." },
    { short: "THIRTEEN   ", long: "thirteen char" },
    { short: "PARTS      ", long: "w".repeat(20) },
  );
  // Of the name of GAP the middle part is lost, of that of ORDER the mark of the last, of that of PARTS the sum of one.
  const gap = rootOffset + 32 * (21 + 2 + 1);
  bytes[gap] = 0xe5;
  bytes[gap + 3 * 32] = 3;
  bytes[rootOffset + 32 * (21 + 2 + 4 + 4 + 2 + 2 + 2 + 1) + 13] = 0;
  deepEqual(namesOf(open(image)), [
    "x".repeat(255),
    "SUM",
    "GAP",
    "ORDER",
    "😀\ud83d",
    "DOT",
    "thirteen char",
    "PARTS",
  ]);
});

Deno.test("fat: the root directory has the label, and the boot sector when it does not", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 16, "8M", "-s", "1", "-n", "FROM BOOT");
  equal(open(image).label, "FROM BOOT");
  image.bytes.fill(0, image.rootOffset, image.rootOffset + 32);
  equal(open(image).label, "FROM BOOT");
  image.writeEntries(image.rootOffset, { short: "NO FILE    ", attributes: 8 });
  equal(open(image).label, "NO FILE");
  deepEqual(namesOf(open(image)), []);
});

Deno.test("fat: times are taken as UTC, to 10 ms where the guest keeps them", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 12, "720K");
  const [inode = 0, bare = 0] = image.writeEntries(image.rootOffset, { short: "A          " }, {
    short: "B          ",
  });
  const { view } = image;
  const date = (year: number, month: number, day: number) => ((year - 1980) << 9) | (month << 5) | day;
  const time = (hour: number, minute: number, second: number) => (hour << 11) | (minute << 5) | (second / 2);
  view.setUint8(inode * 32 + 13, 123);
  view.setUint16(inode * 32 + 14, time(1, 2, 4), true);
  view.setUint16(inode * 32 + 16, date(1999, 12, 31), true);
  view.setUint16(inode * 32 + 18, date(2107, 2, 28), true);
  view.setUint16(inode * 32 + 22, time(23, 59, 58), true);
  view.setUint16(inode * 32 + 24, date(2026, 1, 2), true);
  const fileSystem = open(image);
  const ns = (text: string) => BigInt(Date.parse(text)) * 1_000_000n;
  const stat = fileSystem.stat(inode);
  equal(stat.bornNs, ns("1999-12-31T01:02:05.230Z"));
  equal(stat.accessedNs, ns("2107-02-28T00:00:00Z"));
  equal(stat.modifiedNs, ns("2026-01-02T23:59:58Z"));
  equal(stat.changedNs, stat.modifiedNs);
  const other = fileSystem.stat(bare);
  deepEqual([other.modifiedNs, other.accessedNs, other.bornNs], [
    ns("1980-01-01T00:00:00Z"),
    ns("1980-01-01T00:00:00Z"),
    undefined,
  ]);
});

Deno.test("fat: a file is read up to the damage of its chain, and not beyond", async () => {
  await using folder = new TemporaryFolder();
  for (const bits of [12, 16, 32] as const) {
    const image = await FatImage.make(
      folder.path,
      bits,
      bits === 12 ? "720K" : bits === 16 ? "8M" : "36M",
      "-s",
      "1",
    );
    const [inode = 0, none = 0] = image.writeEntries(
      image.rootOffset,
      { short: "A          ", cluster: 10, sizeBytes: 2000 },
      { short: "B          ", cluster: 0, sizeBytes: 2000 },
    );
    for (const cluster of [10, 11, 20, 21]) {
      image.bytes.fill(cluster, image.offsetOf(cluster), image.offsetOf(cluster + 1));
    }
    const end = 2 ** Math.min(bits, 28) - 1;
    const chain = (...next: [number, number][]) => {
      for (const [cluster, following] of next) image.link(cluster, following);
      return open(image);
    };
    const target = new Uint8Array(2000);
    const whole = chain([10, 11], [11, 20], [20, 21], [21, end]);
    equal(whole.read(inode, 0, target), 2000);
    deepEqual([0, 511, 512, 1023, 1024, 1535, 1536, 1999].map((at) => target[at]), [
      10,
      10,
      11,
      11,
      20,
      20,
      21,
      21,
    ]);
    deepEqual(whole.map(inode, 100, 5000), [
      { kind: "stored", length: 924, deviceOffset: image.offsetOf(10) + 100 },
      { kind: "stored", length: 976, deviceOffset: image.offsetOf(20) },
    ]);
    equal(whole.read(inode, 2000, target), 0);
    deepEqual(whole.map(inode, 2000, 10), []);

    for (
      const [next, text] of [
        [10, "comes back to cluster 10"],
        [20, "comes back to cluster 20"],
        [0, "marked free"],
        [1, "cluster 1 "],
        [end - 8, "marked bad"],
        [end, "ends after 3 of 4 clusters"],
      ] as const
    ) {
      const broken = chain([20, next]);
      throws(() => broken.read(inode, 0, target), refused("damaged", text));
      equal(broken.read(inode, 0, target.subarray(0, 1536)), 1536);
      equal(broken.map(inode, 0, 2000).reduce((sum, { length }) => sum + length, 0), 1536);
      throws(() => broken.map(inode, 1536, 10), refused("damaged", text));
    }
    throws(() => whole.read(none, 0, target), refused("damaged", "without a cluster"));
  }
});

Deno.test("fat: a directory that leads back to itself is listed up to there by lookup alone", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 16, "8M", "-s", "1");
  const [directory = 0] = image.writeEntries(image.rootOffset, {
    short: "DIR        ",
    attributes: 16,
    cluster: 5,
  });
  const many = Array.from({ length: 16 }, (_, index) => ({ short: `FILE${index}       `.slice(0, 11) }));
  image.writeEntries(image.offsetOf(5), ...many);
  image.link(5, 5);
  const fileSystem = open(image);
  throws(() => fileSystem.readDirectory(directory), refused("damaged", "comes back"));
  throws(() => fileSystem.stat(directory), refused("damaged", "comes back"));
  equal(fileSystem.lookup(directory, encodeName("file7")), image.offsetOf(5) / 32 + 7);
  throws(() => fileSystem.lookup(directory, encodeName("file77")), refused("damaged", "comes back"));
});

Deno.test("fat: the number of clusters tells FAT12 from FAT16, and no size of a FAT in the old place FAT32", async () => {
  await using folder = new TemporaryFolder();
  const kindOf = async (clusters: number) => {
    const image = await FatImage.make(folder.path, 16, "8M", "-s", "1", "-a");
    const before = image.heapOffset / 512;
    image.view.setUint16(19, before + clusters, true);
    const { kind, space } = open(image);
    equal(space.blocks, clusters);
    return kind;
  };
  equal(await kindOf(4084), "fat12");
  equal(await kindOf(4085), "fat16");
  const small = await FatImage.make(folder.path, 32, "4M", "-s", "8");
  equal(open(small).kind, "fat32");
  deepEqual(open(small).readDirectory(1), []);
});

Deno.test("fat: FAT32 may say that only one of its FATs counts", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 32, "36M", "-s", "1");
  const [inode = 0] = image.writeEntries(image.rootOffset, {
    short: "A          ",
    cluster: 10,
    sizeBytes: 1024,
  });
  image.link(10, 11, 0);
  image.link(10, 30, 1);
  const second = () => open(image).map(inode, 512, 1);
  const stored = (cluster: number) => [{ kind: "stored", length: 1, deviceOffset: image.offsetOf(cluster) }];
  deepEqual(second(), stored(11));
  image.view.setUint16(40, 1, true);
  deepEqual(second(), stored(11));
  image.view.setUint16(40, 0x81, true);
  deepEqual(second(), stored(30));
  image.view.setUint16(40, 0x82, true);
  throws(second, refused("damaged", "active FAT 2 of 2"));
});

Deno.test("fat: a boot sector that contradicts itself is refused with what is wrong", async () => {
  await using folder = new TemporaryFolder();
  const whole = await FatImage.make(folder.path, 32, "36M", "-s", "1");
  const changes: readonly [at: number, width: number, value: number, code: string, text: string][] = [
    [11, 2, 513, "damaged", "sectors of 513 bytes"],
    [13, 1, 3, "damaged", "clusters of 3 sectors"],
    [13, 1, 0, "damaged", "clusters of 0 sectors"],
    [14, 2, 0, "damaged", "no sector before the first FAT"],
    [16, 1, 0, "damaged", "no FAT"],
    [17, 2, 16, "damaged", "a root directory of 16 entries"],
    [21, 1, 0x55, "damaged", "medium 85"],
    [32, 4, 100, "damaged", "of 100 sectors before the clusters"],
    [36, 4, 0, "damaged", "a FAT without sectors"],
    [36, 4, 0xffffffff, "damaged", "before the clusters"],
    [42, 2, 1, "unsupported", "version 1 of FAT32"],
    [44, 4, 1, "damaged", "a root directory in cluster 1"],
    [44, 4, 0x10000000, "damaged", "a root directory in cluster 268435456"],
  ];
  for (const [at, width, value, code, text] of changes) {
    const device = new MemoryDevice(whole.bytes.slice(0, 1024 * 1024));
    for (let byte = 0; byte < width; byte++) device.bytes[at + byte] = Math.floor(value / 256 ** byte) % 256;
    equal(FAT_READER.looksLike(device), true);
    throws(() => openFat(device), refused(code, text));
    // Without its name, such a sector is not taken for one of FAT.
    device.bytes.fill(0, 82, 90);
    equal(FAT_READER.looksLike(device), false);
  }
  throws(() => openFat(new MemoryDevice(new Uint8Array(100))), refused("damaged", "100 bytes"));
});

Deno.test("fat: a damaged boot sector that has the name of FAT is told as such", async () => {
  await using folder = new TemporaryFolder();
  const { bytes } = await FatImage.make(folder.path, 12, "720K");
  bytes[13] = 3;
  equal(
    openGuestDisk(new MemoryDevice(bytes)).partitions[0]?.reason,
    "it holds a FAT file system, which cannot be opened: " +
      "reading the boot sector of a FAT file system: clusters of 3 sectors",
  );
});

Deno.test("fat: of a disk that was cut off, what is there can be read", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 16, "8M", "-s", "1");
  const [inode = 0] = image.writeEntries(image.rootOffset, {
    short: "A          ",
    cluster: 10,
    sizeBytes: 1024,
  });
  image.link(10, 8000);
  image.link(8000, 0xffff);
  const fileSystem = openFat(new MemoryDevice(image.bytes.slice(0, 1024 * 1024)));
  equal(fileSystem.read(inode, 0, new Uint8Array(512)), 512);
  throws(() => fileSystem.read(inode, 0, new Uint8Array(1024)), refused("damaged", "where the device has"));
  const tables = new MemoryDevice(image.bytes.slice(0, image.rootOffset));
  throws(() => openFat(tables), refused("damaged", "tables up to"));
});

Deno.test("fat: numbers that lead to no entry are not found, and files are no directories", async () => {
  await using folder = new TemporaryFolder();
  const image = await FatImage.make(folder.path, 16, "8M", "-s", "1");
  const [file = 0, directory = 0] = image.writeEntries(
    image.rootOffset,
    { short: "A          ", long: "a long name" },
    { short: "B          ", attributes: 16, cluster: 5 },
  );
  const fileSystem = open(image);
  for (const inode of [0, 2, file - 1, directory + 1, 2 ** 50, -1, 0.5, NaN]) {
    throws(() => fileSystem.stat(inode), refused("not-found", `inode ${inode}`));
  }
  throws(() => fileSystem.readDirectory(file), refused("invalid", "it is a file"));
  throws(() => fileSystem.lookup(file, encodeName("x")), refused("invalid", "it is a file"));
  throws(() => fileSystem.read(directory, 0, new Uint8Array(1)), refused("invalid", "it is a directory"));
  throws(() => fileSystem.read(1, 0, new Uint8Array(1)), refused("invalid", "it is a directory"));
  throws(() => fileSystem.read(file, -1, new Uint8Array(1)), refused("invalid", "offset -1"));
  throws(() => fileSystem.readLink(file), refused("invalid", "no symbolic links"));
});

Deno.test("fat: the largest file there can be is read at its end without reading all of it", async () => {
  await using folder = new TemporaryFolder();
  const path = `${folder.path}/large`;
  await makeFat(path, "5G", ["-F", "32", "-s", "64"]);
  const sizeBytes = 2 ** 32 - 1;
  const clusterBytes = 32_768;
  const clusters = Math.ceil(sizeBytes / clusterBytes);
  let heap = 0;
  let inode = 0;
  {
    using file = await Deno.open(path, { read: true, write: true });
    const boot = new Uint8Array(512);
    file.readSync(boot);
    const view = new DataView(boot.buffer);
    const [fat, fatBytes] = [view.getUint16(14, true) * 512, view.getUint32(36, true) * 512];
    heap = fat + 2 * fatBytes;
    // In steps of two clusters from the end: no two clusters lie one behind the other.
    const entries = new Uint32Array(2 * clusters);
    const place = (index: number) => index < clusters / 2 ? 4 + 2 * index : 5 + 2 * (clusters - 1 - index);
    for (let index = 0; index < clusters; index++) {
      entries[place(index)] = index + 1 < clusters ? place(index + 1) : 0x0fffffff;
    }
    const write = (at: number, bytes: Uint8Array) => {
      file.seekSync(at, Deno.SeekMode.Start);
      file.writeSync(bytes);
    };
    write(fat + 16, new Uint8Array(entries.buffer, 16, 4 * (clusters + 8)));
    const entry = new Uint8Array(32);
    entry.set(new TextEncoder().encode("LARGE      "));
    new DataView(entry.buffer).setUint16(26, 4, true);
    new DataView(entry.buffer).setUint32(28, sizeBytes, true);
    write(heap, entry);
    inode = heap / 32;
    write(heap + (place(clusters - 1) - 2) * clusterBytes, new TextEncoder().encode("last cluster"));
  }
  using device = new ImageDevice(path);
  const fileSystem = openFat(device);
  equal(fileSystem.stat(inode).sizeBytes, sizeBytes);
  const target = new Uint8Array(100_000);
  equal(fileSystem.read(inode, (clusters - 1) * clusterBytes, target), clusterBytes - 1);
  equal(new TextDecoder().decode(target.subarray(0, 12)), "last cluster");
  equal(fileSystem.read(inode, 1_000_000_007, target), 100_000);
});

import { deepEqual, equal, throws } from "node:assert/strict";
import { type ErrorCode, VarveError } from "../../base/errors.ts";
import { noise } from "../_busy_tree.ts";
import { u16, u32 } from "../_bytes.ts";
import { mountTest } from "../_kernel_mount.ts";
import { MemoryDevice, TemporaryFolder } from "../_test_support.ts";
import type { GuestFileSystem } from "../guest.ts";
import { openGuestDisk } from "../guest_disk.ts";
import { makeNtfs, PeerMount } from "./_peer_mount.ts";
import { ATTRIBUTE, RECORD } from "./format.ts";
import { NTFS_READER } from "./ntfs_reader.ts";
import { NtfsVolume } from "./volume.ts";

const RECORD_BYTES = 1024;
const CONTENT = noise(1, 100_000);

/** A volume of known files, and places in it. */
class Sample {
  readonly bytes: Uint8Array;
  readonly #places: GuestFileSystem;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes.slice();
    this.#places = NTFS_READER.open(new MemoryDevice(bytes));
  }

  static async make(): Promise<Uint8Array> {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    await makeNtfs(image, 4);
    {
      await using mount = await PeerMount.open(image, "defaults");
      Deno.writeFileSync(`${mount.path}/large`, CONTENT);
      Deno.writeTextFileSync(`${mount.path}/small`, "small");
      Deno.mkdirSync(`${mount.path}/folder`);
      for (let index = 0; index < 100; index++) {
        Deno.writeTextFileSync(`${mount.path}/folder/name ${index}`, "");
      }
      for (let index = 0; index < 40; index++) {
        Deno.linkSync(`${mount.path}/small`, `${mount.path}/another name of small ${index}`);
      }
    }
    return await Deno.readFile(image);
  }

  open(): GuestFileSystem {
    return NTFS_READER.open(new MemoryDevice(this.bytes));
  }

  /** The number of the file behind a name in the root. */
  number(name: string): number {
    return this.#places.lookup(RECORD.root, new TextEncoder().encode(name)) ?? -1;
  }

  /** Where a record begins. */
  record(number: number): number {
    const [run] = this.#places.map(RECORD.mft, number * RECORD_BYTES, RECORD_BYTES);
    return run?.kind === "stored" ? run.deviceOffset : -1;
  }

  /** Where the first attribute of a type begins. */
  attribute(number: number, type: number): number {
    let at = this.record(number);
    for (at += u16(this.bytes, at + 0x14); u32(this.bytes, at) !== type;) at += u32(this.bytes, at + 4);
    return at;
  }

  /** Where an index block of a directory begins. */
  indexBlock(directory: number): number {
    for (let at = 0; at < this.bytes.length; at += 4096) {
      // The first name in the block has the number of its directory.
      const isIndex = u32(this.bytes, at) === 0x58444e49;
      if (isIndex && u32(this.bytes, at + 0x18 + u32(this.bytes, at + 0x18) + 0x10) === directory) return at;
    }
    return -1;
  }

  flip(at: number): void {
    this.put16(at, u16(this.bytes, at) ^ 1);
  }

  put16(at: number, value: number): void {
    new DataView(this.bytes.buffer).setUint16(at, value, true);
  }

  put32(at: number, value: number): void {
    new DataView(this.bytes.buffer).setUint32(at, value, true);
  }
}

function refused(code: ErrorCode, work: () => unknown): void {
  throws(work, (thrown) => thrown instanceof VarveError && thrown.code === code);
}

function read(fileSystem: GuestFileSystem, inode: number): Uint8Array {
  const target = new Uint8Array(200_000);
  return target.subarray(0, fileSystem.read(inode, 0, target));
}

mountTest("ntfs: what is damaged is told, and nothing else is lost", async () => {
  const made = await Sample.make();
  const damage = (change: (sample: Sample, large: number, small: number) => void) => {
    const sample = new Sample(made);
    const [large, small] = [sample.number("large"), sample.number("small")];
    change(sample, large, small);
    const open = () => sample.open();
    return { sample, large, small, open };
  };
  const intact = damage(() => {});
  deepEqual(read(intact.open(), intact.large), CONTENT);
  equal(intact.open().stat(intact.small).links, 41);

  {
    // A record of two sectors, the second of which was not yet written.
    const { open, large, small } = damage((sample, large) => sample.flip(sample.record(large) + 1022));
    refused("damaged", () => open().stat(large));
    equal(new TextDecoder().decode(read(open(), small)), "small");
    equal(open().readDirectory(RECORD.root).length, 43);
  }
  {
    const { open, large } = damage((sample, large) => sample.put32(sample.record(large) + 0x2c, large + 1));
    refused("damaged", () => open().stat(large));
  }
  {
    // The first record is gone, but there is a copy; then both.
    const { sample, open, large } = damage((sample) => sample.put32(sample.record(RECORD.mft), 0x44414142));
    deepEqual(read(open(), large), CONTENT);
    const mirror = Number(new DataView(sample.bytes.buffer).getBigUint64(0x38, true)) * 4096;
    sample.put32(mirror, 0x44414142);
    refused("damaged", open);
  }
  {
    const { open, large } = damage((sample, large) => sample.flip(sample.record(large) + 0x10));
    refused("damaged", () => open().lookup(RECORD.root, new TextEncoder().encode("large")));
    deepEqual(read(open(), large), CONTENT);
  }
  {
    const { sample, open } = damage(() => {});
    const folder = sample.number("folder");
    const block = sample.indexBlock(folder);
    // Half written; then whole, but another block than the one that is wanted.
    for (const at of [block + 510, block + 0x10]) {
      sample.flip(at);
      refused("damaged", () => open().readDirectory(folder));
      sample.flip(at);
    }
    equal(open().readDirectory(folder).length, 100);
    sample.flip(block);
    equal(open().readDirectory(RECORD.root).length, 43);
  }
  {
    const { open, large, small } = damage((sample) =>
      sample.put32(sample.attribute(RECORD.upcase, ATTRIBUTE.data) + 0x30, 0x40000)
    );
    refused("damaged", () => open().lookup(RECORD.root, new TextEncoder().encode("large")));
    deepEqual([read(open(), large).length, read(open(), small).length], [CONTENT.length, 5]);
  }
});

mountTest(
  "ntfs: content that cannot be made readable is refused, and what was never written is zero",
  async () => {
    const made = await Sample.make();
    const change = (work: (sample: Sample, data: number) => void) => {
      const sample = new Sample(made);
      const large = sample.number("large");
      work(sample, sample.attribute(large, ATTRIBUTE.data));
      return { fileSystem: sample.open(), large };
    };
    for (const flags of [0x4000, 0x0002]) {
      const { fileSystem, large } = change((sample, data) => sample.put16(data + 0x0c, flags));
      equal(fileSystem.stat(large).sizeBytes, CONTENT.length);
      refused("unsupported", () => read(fileSystem, large));
      refused("unsupported", () => fileSystem.map(large, 0, 10));
    }
    const { fileSystem, large } = change((sample, data) => sample.put32(data + 0x38, 70_001));
    deepEqual(
      read(fileSystem, large),
      new Uint8Array([...CONTENT.subarray(0, 70_001), ...new Uint8Array(29_999)]),
    );
    deepEqual(fileSystem.map(large, 70_000, 50_000).map(({ kind, length }) => [kind, length]), [
      ["stored", 1],
      ["hole", 29_999],
    ]);
    deepEqual(fileSystem.map(large, 80_000, 5).map(({ kind, length }) => [kind, length]), [["hole", 5]]);
    deepEqual(fileSystem.map(large, 100_000, 5), []);
    equal(fileSystem.read(large, 100_000, new Uint8Array(5)), 0);
    refused("damaged", () => {
      const { fileSystem, large } = change((sample, data) => sample.put32(data + 0x38, 100_001));
      read(fileSystem, large);
    });
    refused("damaged", () => {
      // The list of runs ends before the content does.
      const { fileSystem, large } = change((
        sample,
        data,
      ) => (sample.put32(data + 0x30, 200_000), sample.put32(data + 0x38, 200_000)));
      read(fileSystem, large);
    });
  },
);

mountTest("ntfs: numbers of no file, and calls on the wrong kind of file", async () => {
  const sample = new Sample(await Sample.make());
  const fileSystem = sample.open();
  const [large, small] = [sample.number("large"), sample.number("small")];
  for (const number of [20, 5000, 2 ** 40, 2 ** 53, -1, 0.5, NaN]) {
    refused("not-found", () => fileSystem.stat(number));
  }
  // The names of `small` need a second record, which is no file.
  const { mft } = new NtfsVolume(new MemoryDevice(sample.bytes));
  const holders = mft.listOf(mft.record(small))?.map(({ holder }) => holder.record) ?? [];
  const extension = holders.find((holder) => holder !== small) ?? -1;
  equal(mft.record(extension).inUse, true);
  refused("not-found", () => fileSystem.stat(extension));
  refused("invalid", () => fileSystem.readDirectory(large));
  refused("invalid", () => fileSystem.lookup(large, new Uint8Array(1)));
  refused("invalid", () => fileSystem.readLink(large));
  refused("invalid", () => fileSystem.read(RECORD.root, 0, new Uint8Array(1)));
  refused("invalid", () => fileSystem.read(large, -1, new Uint8Array(1)));
  refused("invalid", () => fileSystem.map(large, 0.5, 1));
});

const BOOT_DAMAGES: readonly [what: string, at: number, value: number, code: ErrorCode][] = [
  ["sectors of 3 bytes", 0x0b, 3, "damaged"],
  ["no sectors in a cluster", 0x0d, 0, "damaged"],
  ["clusters above 2 MiB", 0x0d, 0xf0, "damaged"],
  ["more sectors than the device", 0x2a, 1, "damaged"],
  ["$MFT outside the volume", 0x32, 1, "damaged"],
  ["records of a gigabyte", 0x40, 0xe2, "damaged"],
  ["records of 3 clusters", 0x40, 3, "damaged"],
];

mountTest("ntfs: a boot sector that contradicts itself is damage, and the disk says so", async () => {
  const made = await Sample.make();
  for (const [what, at, value, code] of BOOT_DAMAGES) {
    const { bytes } = new Sample(made);
    bytes[at] = value;
    throws(
      () => NTFS_READER.open(new MemoryDevice(bytes)),
      (thrown) => thrown instanceof VarveError && thrown.code === code,
      what,
    );
    const [partition] = openGuestDisk(new MemoryDevice(bytes)).partitions;
    equal(
      partition?.reason?.startsWith("it holds an NTFS file system, which cannot be opened: "),
      true,
      what,
    );
  }
  const cut = new Sample(made).bytes.subarray(0, 1024 * 1024);
  refused("damaged", () => NTFS_READER.open(new MemoryDevice(cut)));
  const sample = new Sample(made);
  sample.bytes[sample.attribute(RECORD.volume, ATTRIBUTE.volumeInformation) + 0x18 + 8] = 4;
  refused("unsupported", () => sample.open());
});

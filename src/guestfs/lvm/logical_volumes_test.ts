import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { crc32 } from "node:zlib";
import { VarveError } from "../../base/errors.ts";
import { openGuestDisk } from "../guest_disk.ts";
import type { GuestPartition } from "../guest.ts";
import { MemoryDevice, run, TemporaryFolder } from "../_test_support.ts";
import { attempt, Mutation, random } from "../_hostile.ts";
import { mountTest } from "../_kernel_mount.ts";
import { PieceDevice } from "../piece_device.ts";
import { AREA, groupText, linear, logicalText, writePhysicalVolume } from "./_metadata_writer.ts";
import { parseConfig } from "./config_text.ts";
import { findLogicalVolumes } from "./logical_volumes.ts";
import { lvmChecksum } from "./physical_volume.ts";

const MIB = 1024 * 1024;

/** The tools of LVM2, that see the given devices and nothing else and keep no notes. */
function tool(devices: readonly string[], program: string, ...args: string[]): Promise<string> {
  const filter = [...devices.map((device) => `"a|^${device}$|"`), '"r|.*|"'].join(",");
  const config = `devices{use_devicesfile=0 filter=[${filter}]} backup{backup=0 archive=0} ` +
    "activation{udev_sync=0 udev_rules=0}";
  return run("env", "LVM_SUPPRESS_FD_WARNINGS=1", program, "--config", config, ...args);
}

/** Loop devices over images, detached when disposed. */
class Loops implements AsyncDisposable {
  readonly devices: string[] = [];

  async add(...args: string[]): Promise<string> {
    const device = (await run("losetup", "-f", "--show", ...args)).trim();
    this.devices.push(device);
    return device;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const device of this.devices) await run("losetup", "-d", device);
  }
}

/** An ext4 file system of so many MiB with one file `text` that holds a text. */
async function extImage(folder: string, mebibytes: number, text: string): Promise<Uint8Array> {
  const [tree, path] = [`${folder}/tree`, `${folder}/ext`];
  await Deno.mkdir(tree, { recursive: true });
  await Deno.writeTextFile(`${tree}/text`, text);
  await run("truncate", "-s", `${mebibytes}M`, path);
  await run("mkfs.ext4", "-q", "-F", "-d", tree, path);
  const bytes = await Deno.readFile(path);
  await Deno.remove(path);
  return bytes;
}

function textOf({ fileSystem, reason }: GuestPartition): string {
  if (fileSystem === undefined) return `${reason}`;
  const inode = fileSystem.lookup(fileSystem.root, new TextEncoder().encode("text"));
  const target = new Uint8Array(100);
  return new TextDecoder().decode(target.subarray(0, fileSystem.read(inode ?? 0, 0, target)));
}

/** An image of 62 MiB with these logical volumes. */
function imageOf(logicals: readonly string[], options = {}): MemoryDevice {
  const image = new Uint8Array(62 * MIB);
  writePhysicalVolume(image, groupText(logicals.join("\n")), options);
  return new MemoryDevice(image);
}

mountTest("lvm: what its tools made in a partition is found, piece by piece", async () => {
  await using folder = new TemporaryFolder();
  const [disk, other] = [`${folder.path}/disk`, `${folder.path}/other`];
  await run("truncate", "-s", "80M", disk);
  await run("truncate", "-s", "32M", other);
  const table = `label: gpt\\nstart=2048,size=${8 * MIB / 512}\\nstart=20480,size=${64 * MIB / 512}\\n`;
  await run("bash", "-c", `printf '${table}' | eatmydata sfdisk -q ${disk}`);
  const start = 20480 * 512;
  let listed: string;
  {
    await using loops = new Loops();
    const first = await loops.add("-o", `${start}`, "--sizelimit", `${64 * MIB}`, disk);
    const second = await loops.add(other);
    const lvm = (program: string, ...args: string[]) => tool(loops.devices, program, "-q", ...args);
    const create = (...args: string[]) =>
      lvm("lvcreate", "--driverloaded", "n", "-an", "-Zn", "-Wn", "-n", ...args);
    await lvm("pvcreate", first, second);
    await lvm("vgcreate", "-s", "1M", "vg", first, second);
    await create("root", "-L", "6M", "vg", first);
    await create("home", "-L", "8M", "vg", first);
    await lvm("lvextend", "--driverloaded", "n", "-L", "12M", "vg/root", first);
    await create("elsewhere", "-L", "3M", "vg", second);
    await create("striped", "-i", "2", "-L", "4M", "vg");
    await create("both", "-l", "100%FREE", "vg");
    listed = await lvm(
      "lvs",
      "--driverloaded",
      "n",
      "--noheadings",
      "-o",
      "lv_name,seg_pe_ranges",
      "vg/root",
    );
    deepEqual(listed.trim().split(/\s+/), ["root", `${first}:0-5`, "root", `${first}:14-19`]);
  }
  const image = await Deno.readFile(disk);
  const ext = await extImage(folder.path, 12, "in two segments");
  image.set(ext.subarray(0, 6 * MIB), start + MIB);
  image.set(ext.subarray(6 * MIB), start + MIB + 14 * MIB);
  const found = openGuestDisk(new MemoryDevice(image));
  equal(found.table, "gpt");
  deepEqual(found.partitions.map(({ name }) => name), [
    "p1",
    "p2/root",
    "p2/home",
    "p2/elsewhere",
    "p2/striped",
    "p2/both",
  ]);
  const [, root, home, elsewhere, striped, both] = found.partitions.map(textOf);
  equal(root, "in two segments");
  equal(home, "nothing has been written here yet");
  match(`${elsewhere}`, /another physical volume/);
  match(`${striped}`, /striped over 2 places/);
  match(`${both}`, /another physical volume/);
  deepEqual(found.partitions[1]?.pieces, [
    { offset: start + MIB, length: 6 * MIB },
    { offset: start + 15 * MIB, length: 6 * MIB },
  ]);
});

mountTest("lvm: text that goes round the end of its area is read as pvck reads it", async () => {
  await using folder = new TemporaryFolder();
  const logicals = [
    logicalText("root", [[3, linear("pv0", 7)], [2, linear("pv0", 2)], [1, linear("pv0", 4)]]),
  ];
  const device = imageOf(logicals, { textOffset: AREA.length - 300 });
  await Deno.writeFile(`${folder.path}/pv`, device.bytes);
  await using loops = new Loops();
  const loop = await loops.add(`${folder.path}/pv`);
  match(await tool([loop], "pvck", "--dump", "metadata", loop), /root \{/);
  match(await tool([loop], "pvs", "--readonly", "-o", "vg_name"), /\bvg\b/);
  deepEqual(findLogicalVolumes(device), [{
    name: "root",
    pieces: [{ offset: 8 * MIB, length: 3 * MIB }, { offset: 3 * MIB, length: 3 * MIB }],
    reason: undefined,
  }]);
});

Deno.test("lvm: a whole disk gives its volumes by their names alone", async () => {
  await using folder = new TemporaryFolder();
  const device = imageOf([
    logicalText("root", [[4, linear("pv0", 9)]]),
    logicalText("swap", [[1, linear("pv0", 0)]]),
  ]);
  device.bytes.set(await extImage(folder.path, 4, "whole"), 10 * MIB);
  const { table, partitions } = openGuestDisk(device);
  equal(table, "none");
  deepEqual(partitions.map((each) => [each.name, textOf(each)]), [
    ["root", "whole"],
    ["swap", "nothing has been written here yet"],
  ]);
});

Deno.test("lvm: kinds that are more than pieces are named, hidden volumes are not shown", () => {
  const device = imageOf([
    logicalText("mirrored", [[2, 'type = "raid1"\ndevice_count = 2\nraids = ["a_rmeta_0", "a_rimage_0"]']]),
    logicalText("a_rimage_0", [[2, linear("pv0", 0)]], '"HIDDEN"'),
    logicalText("pool", [[2, 'type = "thin-pool"\nmetadata = "x"\npool = "y"']]),
    logicalText("thin", [[2, 'type = "thin"\nthin_pool = "pool"\ntransaction_id = 0\ndevice_id = 1']]),
    logicalText("cached", [[2, 'type = "cache+METADATA_FORMAT"\ncache_pool = "c"\norigin = "o"']]),
    logicalText("origin", [[2, linear("pv0", 10)]]),
    logicalText("snap", [[1, linear("pv0", 20)]]),
    logicalText("snapshot0", [[
      2,
      'type = "snapshot"\nchunk_size = 8\norigin = "origin"\ncow_store = "snap"',
    ]], '"X"'),
    logicalText("merged", [[2, linear("pv0", 30)]]),
    logicalText("snapshot1", [[2, 'type = "snapshot"\norigin = "merged"\nmerging_store = "old"']], '"X"'),
    logicalText("moving", [[2, linear("pvmove0", 0)]]),
    logicalText("pvmove0", [[2, 'type = "mirror"']], '"X"'),
    logicalText("strange", [[2, 'type = "constructor"']]),
    logicalText("mixed", [[1, linear("pv0", 40)], [1, linear("pv1", 1)]]),
    logicalText("stripes", [[2, 'type = "striped"\nstripe_count = 2\nstripes = ["pv0", 41, "pv1", 2]']]),
  ], { sector: 3 });
  const kinds = findLogicalVolumes(device)?.map(({ name, reason }) => [
    name,
    reason?.replace("it is an LVM2 logical volume, ", "").replace(/, which .*|; the image.*/, "").slice(
      0,
      70,
    ),
  ]);
  deepEqual(kinds, [
    ["mirrored", "a raid1 volume"],
    ["pool", "a thin pool"],
    ["thin", "a thin volume"],
    ["cached", "a cached volume"],
    ["origin", undefined],
    ["snap", "a snapshot"],
    ["merged", "a volume that a snapshot is being merged into"],
    ["moving", "being moved between physical volumes"],
    ["strange", 'of the kind "constructor"'],
    ["mixed", "it lies, at least in part, on another physical volume of its LVM2 grou"],
    ["stripes", "striped over 2 places"],
  ]);
});

Deno.test("lvm: physical volumes without anything to show say so", () => {
  const reasonOf = (text: string | undefined, options = {}) => {
    const image = new Uint8Array(2 * MIB);
    writePhysicalVolume(image, text, options);
    const { partitions } = openGuestDisk(new MemoryDevice(image));
    deepEqual(partitions.map(({ name }) => name), [""]);
    return `${partitions[0]?.reason}`;
  };
  match(reasonOf(undefined), /belongs to no volume group yet/);
  match(reasonOf(undefined, { bare: true }), /described on other disks only/);
  match(reasonOf(groupText("")), /without logical volumes/);
});

const DAMAGES: readonly [what: string, logicals: string, found: RegExp][] = [
  [
    "a gap between segments",
    logicalText("a", [[1, linear("pv0", 0)]]).replace("start_extent = 0", "start_extent = 1"),
    /gap/,
  ],
  [
    "extents beyond the physical volume",
    logicalText("a", [[2, linear("pv0", 59)]]),
    /extents 59 to 61 of 60/,
  ],
  ["an unknown place", logicalText("a", [[2, linear("pv7", 0)]]), /"pv7", which is not in the group/],
  ["a name that leads out", logicalText("..", [[2, linear("pv0", 0)]]), /impossible name/],
  ["a name with a slash", logicalText("a/b", [[2, linear("pv0", 0)]]), /impossible name/],
  [
    "an absent segment",
    logicalText("a", [[1, linear("pv0", 0)]]).replace("segment_count = 1", "segment_count = 2"),
    /missing/,
  ],
  ["a section without an end", `${logicalText("a", [[1, linear("pv0", 0)]])} b {`, /ends within a section/],
  ["sections too deep", "a{".repeat(50), /more than 10 sections/],
];

for (const [what, logicals, found] of DAMAGES) {
  Deno.test(`lvm: ${what} is damaged`, () => {
    const device = imageOf([logicals]);
    throws(
      () => findLogicalVolumes(device),
      (thrown) => thrown instanceof VarveError && thrown.code === "damaged" && found.test(thrown.message),
    );
    match(`${openGuestDisk(device).partitions[0]?.reason}`, found);
  });
}

Deno.test("lvm: texts are read as they are meant, and those that end too early are damaged", () => {
  const text = 'a = "q\\"\\\\" # c\nb{c=[1,-2,"x",]d=[]}e=3';
  deepEqual(
    parseConfig(text),
    new Map<string, unknown>([
      ["a", 'q"\\'],
      ["b", new Map([["c", [1, -2, "x"]], ["d", []]])],
      ["e", 3],
    ]),
  );
  for (const bad of ['a = "x', "a = [1", "a {", "a", "a =", "}", "= 1", "a = 1x", "a = {}"]) {
    throws(
      () => parseConfig(bad),
      (thrown) => thrown instanceof VarveError && thrown.code === "damaged",
      bad,
    );
  }
});

Deno.test("lvm: checksums of label, area and text are checked", () => {
  const logicals = [logicalText("root", [[3, linear("pv0", 7)]])];
  const label = imageOf(logicals);
  label.bytes[512 + 40] = 0x41;
  equal(findLogicalVolumes(label), undefined);
  match(`${openGuestDisk(label).partitions[0]?.reason}`, /label is damaged/);
  const area = imageOf(logicals);
  area.bytes[AREA.offset + 100] = 1;
  throws(() => findLogicalVolumes(area), /checksum of its header/);
  const text = imageOf(logicals);
  text.bytes[AREA.offset + 600] = 0x41;
  throws(() => findLogicalVolumes(text), /checksum of its text/);
  equal(lvmChecksum(new Uint8Array()), 0xf597a6cf);
  equal(~crc32(new Uint8Array([1]), ~0xf597a6cf >>> 0) >>> 0, lvmChecksum(new Uint8Array([1])));
});

Deno.test("lvm: 1,000 damaged physical volumes give answers or our errors", () => {
  const text = groupText([
    logicalText("root", [[3, linear("pv0", 7)], [2, linear("pv0", 2)]]),
    logicalText("thin", [[2, 'type = "thin"\nthin_pool = "pool"']]),
    logicalText("snapshot0", [[2, 'type = "snapshot"\norigin = "root"\ncow_store = "thin"']]),
  ].join("\n"));
  const words = [
    "{",
    "}",
    "[",
    "]",
    "=",
    '"',
    "-1",
    "1e99",
    "9007199254740993",
    "segment1 {",
    "pv0",
    "\\",
    "#",
    "NaN",
  ];
  let opened = 0;
  for (let seed = 1; seed <= 1000; seed++) {
    const next = random(seed);
    const image = new Uint8Array(2 * MIB);
    let changed = text;
    // Half of them keep their checksums: then what they say is what is met.
    for (let count = next(4); count > 0; count--) {
      const at = next(changed.length);
      changed = changed.slice(0, at) + words[next(words.length)] + changed.slice(at + next(20));
    }
    writePhysicalVolume(image, changed, { textOffset: 512 + next(AREA.length - 1024) });
    const device = new MemoryDevice(image);
    using mutation = new Mutation(device);
    if (seed % 2 === 0) {
      mutation.field(next(2) === 0 ? 512 + next(200) : AREA.offset + next(80), next);
      if (next(2) === 0) repair(mutation, image);
    }
    if (attempt(() => findLogicalVolumes(device)) !== undefined) opened++;
    for (const { fileSystem, reason } of openGuestDisk(device).partitions) {
      ok((fileSystem === undefined) === (reason !== undefined));
    }
  }
  ok(opened > 100, `${opened} could be opened`);
});

/** Makes the checksums of label and area hold again. */
function repair(mutation: Mutation, image: Uint8Array): void {
  const word = (value: number) => [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
  mutation.write(512 + 16, word(lvmChecksum(image.subarray(512 + 20, 1024))));
  mutation.write(AREA.offset, word(lvmChecksum(image.subarray(AREA.offset + 4, AREA.offset + 512))));
}

Deno.test("piece device: reads across its pieces, tells their extents, and is never written", () => {
  const parent = new MemoryDevice(Uint8Array.from({ length: 100 }, (_, index) => index));
  const device = new PieceDevice(parent, [{ offset: 50, length: 3 }, { offset: 10, length: 4 }, {
    offset: 90,
    length: 2,
  }]);
  equal(device.sizeBytes, 9);
  const all = new Uint8Array(9);
  device.read(0, all);
  deepEqual([...all], [50, 51, 52, 10, 11, 12, 13, 90, 91]);
  const middle = new Uint8Array(5);
  device.read(2, middle);
  deepEqual([...middle], [52, 10, 11, 12, 13]);
  deepEqual(device.extents(1, 7), [{ offset: 1, length: 7, kind: "data" }]);
  parent.extents = (offset, length) =>
    offset < 50 ? [{ offset, length, kind: "hole" }] : [{ offset, length, kind: "data" }];
  const extents = [
    { offset: 0, length: 3, kind: "data" },
    { offset: 3, length: 4, kind: "hole" },
    { offset: 7, length: 2, kind: "data" },
  ];
  deepEqual(device.extents(0, 9), extents);
  deepEqual(device.extents(0, 9, 2), extents.slice(0, 2));
  const code = (wanted: string) => (thrown: unknown) =>
    thrown instanceof VarveError && thrown.code === wanted;
  throws(() => device.read(8, new Uint8Array(2)), code("out-of-range"));
  throws(() => device.read(-1, new Uint8Array(1)), code("out-of-range"));
  throws(() => device.write(), code("read-only"));
  throws(() => new PieceDevice(parent, [{ offset: 99, length: 2 }]), code("out-of-range"));
  device.read(9, new Uint8Array(0));
});

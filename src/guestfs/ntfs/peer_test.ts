import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { seekContent } from "../content.ts";
import type { GuestFileSystem } from "../guest.ts";
import { openGuestDisk } from "../guest_disk.ts";
import { Kernel, mountTest } from "../_kernel_mount.ts";
import {
  describeTree,
  differences,
  type FileFacts,
  ImageDevice,
  run,
  TemporaryFolder,
} from "../_test_support.ts";
import { makeNtfs, PeerMount } from "./_peer_mount.ts";
import { ATTRIBUTE } from "./format.ts";
import { NtfsVolume } from "./volume.ts";
import { fillTree } from "./_windows_tree.ts";

/** Opens the file system of an image; `device` must outlive it. */
function openImage(device: ImageDevice): GuestFileSystem {
  const [partition] = openGuestDisk(device).partitions;
  if (partition?.fileSystem === undefined) throw new Error(partition?.reason);
  return partition.fileSystem;
}

/** Follows names from the root. */
function find(fileSystem: GuestFileSystem, path: string): number {
  let inode: number | undefined = fileSystem.root;
  for (const name of path.split("/")) {
    inode = fileSystem.lookup(inode, new TextEncoder().encode(name));
    if (inode === undefined) throw new Error(`${path}: ${name} is not there`);
  }
  return inode;
}

/** Without what ntfs-3g cannot tell: FUSE has no time of birth, and its version no holes. */
function comparable(tree: ReadonlyMap<string, FileFacts>): Map<string, FileFacts> {
  return new Map(
    tree.entries().map(([path, facts]) => {
      const { bornNs: _, ...stat } = facts.stat;
      return [path, { ...facts, stat, segments: [] }];
    }),
  );
}

/** Compares our tree of an image with that of a read-only mount by ntfs-3g. */
async function compare(image: string): Promise<void> {
  await using mount = await PeerMount.open(image, "ro");
  using kernel = new Kernel();
  using device = new ImageDevice(image);
  const fileSystem = openImage(device);
  const ours = comparable(describeTree(fileSystem, device));
  deepEqual(differences(ours, comparable(kernel.describeTree(mount.path))), []);
  deepEqual(fileSystem.space, kernel.space(mount.path));
}

interface Case {
  readonly name: string;
  readonly make: string[];
  readonly names?: number;
  readonly runs?: number;
}

const CASES: readonly Case[] = [
  { name: "clusters of 4 KiB, 10,000 names in one directory", make: [], names: 10_000, runs: 2000 },
  { name: "clusters of 512 bytes", make: ["-c", "512"] },
  { name: "clusters of 1 KiB, sectors of 1 KiB", make: ["-c", "1024", "-s", "1024"] },
  { name: "clusters of 64 KiB", make: ["-c", "65536"] },
  { name: "sectors and records of 4 KiB", make: ["-s", "4096", "-c", "4096"] },
];

for (const { name, make, names = 1200, runs = 300 } of CASES) {
  mountTest(`ntfs: ${name}: shows what ntfs-3g shows`, async () => {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    await makeNtfs(image, 100, "-L", "Lábel 𝄞", ...make);
    {
      await using mount = await PeerMount.open(image, "compression");
      await fillTree(mount.path, { names, runs });
    }
    await compare(image);
    using device = new ImageDevice(image);
    const fileSystem = openImage(device);
    deepEqual([fileSystem.kind, fileSystem.label], ["ntfs", "Lábel 𝄞"]);
    const holes = (path: string) => {
      const stat = fileSystem.stat(find(fileSystem, path));
      return seekContent(fileSystem, stat, { offset: 0, kind: "data" });
    };
    equal(holes("holes/all"), undefined);
    ok((holes("holes/far") ?? 0) > 39_000_000);
  });
}

mountTest("ntfs: a volume that is still in use is shown as it is in place", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/image`;
  await makeNtfs(image, 64);
  {
    await using mount = await PeerMount.open(image, "compression");
    await fillTree(mount.path, { names: 500, runs: 50 });
    await run("sync", "-f", mount.path);
    await run("cp", "--sparse=always", image, `${image}.busy`);
  }
  await compare(`${image}.busy`);
});

mountTest("ntfs: an $MFT in many pieces is read through its list of attributes", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/image`;
  await makeNtfs(image, 16);
  {
    await using mount = await PeerMount.open(image, "defaults");
    const fill = (prefix: string, bytes: number) => {
      let files = 0;
      try {
        for (; files < 6000; files++) {
          Deno.writeFileSync(`${mount.path}/${prefix}${files}`, new Uint8Array(bytes));
        }
      } catch {
        // The volume is full, as it should be.
      }
      return files;
    };
    const files = fill("", 4096);
    // The free clusters now lie between others, one at a time, and new records must go there.
    for (let index = 0; index < files; index += 2) Deno.removeSync(`${mount.path}/${index}`);
    fill("more ", 0);
  }
  await using mount = await PeerMount.open(image, "ro");
  using device = new ImageDevice(image);
  const fileSystem = openImage(device);
  const entries = fileSystem.readDirectory(fileSystem.root);
  const inodes = new Map(entries.map(({ name, inode }) => [new TextDecoder().decode(name), inode]));
  for (const { name } of Deno.readDirSync(mount.path)) {
    const { ino, size } = Deno.lstatSync(`${mount.path}/${name}`);
    const inode = find(fileSystem, name);
    deepEqual([inodes.get(name), inode, fileSystem.stat(inode).sizeBytes], [ino, ino, size]);
    inodes.delete(name);
  }
  equal(inodes.size, 0);
  const { mft } = new NtfsVolume(device);
  const pieces = mft.listOf(mft.record(0))?.filter(({ type }) => type === ATTRIBUTE.data) ?? [];
  ok(pieces.length >= 2, `${pieces.length} pieces`);
});

mountTest(
  "ntfs: a name is found in any case, but in its own first; an 8.3 name leads to its file unseen",
  async () => {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    await makeNtfs(image, 16);
    {
      await using mount = await PeerMount.open(image, "defaults");
      for (const name of ["Foo", "foo", "FOO", "Ärger", "A long name.text"]) {
        Deno.writeTextFileSync(
          `${mount.path}/${name}`,
          name,
        );
      }
      await run(
        "setfattr",
        "-n",
        "system.ntfs_dos_name",
        "-v",
        "ALONGN~1.TEX",
        `${mount.path}/A long name.text`,
      );
    }
    using device = new ImageDevice(image);
    const fileSystem = openImage(device);
    const read = (name: string) => {
      const target = new Uint8Array(100);
      const count = fileSystem.read(find(fileSystem, name), 0, target);
      return new TextDecoder().decode(target.subarray(0, count));
    };
    deepEqual(["Foo", "foo", "FOO", "fOO", "äRGER"].map(read), ["Foo", "foo", "FOO", "FOO", "Ärger"]);
    equal(read("alongn~1.tex"), "A long name.text");
    const names = fileSystem.readDirectory(fileSystem.root).map(({ name }) => new TextDecoder().decode(name));
    deepEqual(names.sort(), ["A long name.text", "FOO", "Foo", "foo", "Ärger"]);
    for (const name of ["$MFT", "$Extend", ".", "nothing", ""]) {
      equal(fileSystem.lookup(fileSystem.root, new TextEncoder().encode(name)), undefined);
    }
  },
);

/** A reparse point that Microsoft defined. */
function reparse(tag: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, tag, true);
  view.setUint16(4, data.length, true);
  bytes.set(data, 8);
  return bytes;
}

/** The data of a symbolic link, whose `flags` are 1 when it is relative; or of a junction, which has none. */
function linkData(target: string, flags?: number): Uint8Array {
  const header = flags === undefined ? 8 : 12;
  const view = new DataView(new ArrayBuffer(header + target.length * 2));
  view.setUint16(2, target.length * 2, true);
  if (flags !== undefined) view.setUint32(8, flags, true);
  for (let at = 0; at < target.length; at++) view.setUint16(header + 2 * at, target.charCodeAt(at), true);
  return new Uint8Array(view.buffer);
}

/** Name, reparse point, whether it is put on a directory; what is then shown, by us and by ntfs-3g where that differs in kind. */
const LINKS: readonly [name: string, data: Uint8Array, directory: boolean, target: string, peer: string][] = [
  [
    "relative",
    reparse(0xa000000c, linkData("..\\..\\dir\\SUB\\file", 1)),
    false,
    "../../Dir/Sub/File",
    "same",
  ],
  [
    "lost",
    reparse(0xa000000c, linkData("..\\lost\\x", 1)),
    false,
    "../lost/x",
    "unsupported reparse tag 0xa000000c",
  ],
  [
    "rooted",
    reparse(0xa000000c, linkData("\\dir\\sub\\file", 1)),
    false,
    "../../Dir/Sub/File",
    "/Dir/Sub/File",
  ],
  [
    "drive",
    reparse(0xa000000c, linkData("C:\\dir\\sub\\file", 1)),
    false,
    "../../Dir/Sub/File",
    "/Dir/Sub/File",
  ],
  ["full", reparse(0xa000000c, linkData("\\??\\C:\\dir\\sub", 0)), true, "../../Dir/Sub", "/Dir/Sub"],
  ["other drive", reparse(0xa000000c, linkData("\\??\\D:\\x", 0)), false, "\\??\\D:\\x", "/.NTFS-3G/D:/x"],
  ["junction", reparse(0xa0000003, linkData("\\??\\C:\\dir\\sub")), true, "../../Dir/Sub", "/Dir/Sub"],
  ["through", reparse(0xa000000c, linkData("junction\\FILE", 1)), false, "junction/FILE", "same"],
  [
    "volume",
    reparse(0xa0000003, linkData("\\??\\Volume{1}\\")),
    true,
    "\\??\\Volume{1}\\",
    "/.NTFS-3G/Volume{1}",
  ],
  [
    "wsl",
    reparse(0xa000001d, new TextEncoder().encode("\x02\0\0\0../../Dir/ä")),
    false,
    "../../Dir/ä",
    "same",
  ],
];

mountTest(
  "ntfs: links and junctions lead where they lead on Linux, or stay as Windows wrote them",
  async () => {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    await makeNtfs(image, 16);
    const setReparse = (path: string, data: Uint8Array) =>
      run("setfattr", "-h", "-n", "system.ntfs_reparse_data", "-v", `0x${data.toHex()}`, path);
    {
      await using mount = await PeerMount.open(image, "defaults");
      await Deno.mkdir(`${mount.path}/Dir/Sub`, { recursive: true });
      await Deno.mkdir(`${mount.path}/links/in`, { recursive: true });
      Deno.writeTextFileSync(`${mount.path}/Dir/Sub/File`, "x");
      for (const [name, data, directory] of LINKS) {
        const path = `${mount.path}/links/in/${name}`;
        if (directory) Deno.mkdirSync(path);
        else Deno.writeTextFileSync(path, "");
        await setReparse(path, data);
      }
      for (
        const [name, tag] of [["wof", 0x80000017], ["unknown", 0x80001234], ["cloud", 0x9000701a]] as const
      ) {
        Deno.writeTextFileSync(`${mount.path}/${name}`, "content");
        await setReparse(`${mount.path}/${name}`, reparse(tag, new Uint8Array(16)));
      }
    }
    await using mount = await PeerMount.open(image, "ro");
    using device = new ImageDevice(image);
    const fileSystem = openImage(device);
    const text = new TextDecoder();
    for (const [name, , , target, peer] of LINKS) {
      const inode = find(fileSystem, `links/in/${name}`);
      equal(text.decode(fileSystem.readLink(inode)), target, name);
      const { type, sizeBytes } = fileSystem.stat(inode);
      deepEqual([type, sizeBytes], ["symlink", new TextEncoder().encode(target).length]);
      const theirs = Deno.readLinkSync(`${mount.path}/links/in/${name}`);
      equal(theirs, peer === "same" ? target : peer.startsWith("/") ? mount.path + peer : peer, name);
    }
    const target = new Uint8Array(100);
    equal(text.decode(target.subarray(0, fileSystem.read(find(fileSystem, "cloud"), 0, target))), "content");
    for (const name of ["wof", "unknown"]) {
      const inode = find(fileSystem, name);
      equal(fileSystem.stat(inode).sizeBytes, 7);
      throws(
        () => fileSystem.read(inode, 0, target),
        (thrown) => thrown instanceof VarveError && thrown.code === "unsupported",
      );
    }
  },
);

mountTest("ntfs: special files as the Windows Subsystem for Linux keeps them", async () => {
  await using folder = new TemporaryFolder();
  const image = `${folder.path}/image`;
  await makeNtfs(image, 16);
  {
    await using mount = await PeerMount.open(image, "special_files=wsl");
    await run(
      "bash",
      "-c",
      'cd "$0"; mkfifo fifo; mknod c c 1 3; mknod b b 300 70000; ln -s tärget link',
      mount.path,
    );
  }
  await using mount = await PeerMount.open(image, "ro");
  using kernel = new Kernel();
  using device = new ImageDevice(image);
  // ntfs-3g gives these files no permissions at all, where all others have all.
  const facts = (tree: ReadonlyMap<string, FileFacts>) =>
    Object.fromEntries(
      tree.entries().map((
        [path, { stat: { type, rdev, sizeBytes }, target }],
      ) => [path, { type, rdev, sizeBytes, target }]),
    );
  deepEqual(facts(describeTree(openImage(device))), facts(kernel.describeTree(mount.path)));
});

mountTest(
  "ntfs: times to 100 ns, before 1970 and of birth too; streams that Linux cannot show are left out",
  async () => {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    await makeNtfs(image, 16);
    let born = 0n;
    {
      await using mount = await PeerMount.open(image, "streams_interface=windows");
      const file = `${mount.path}/file`;
      Deno.writeTextFileSync(file, "");
      Deno.writeTextFileSync(`${file}:small`, "value");
      Deno.writeFileSync(`${file}:just`, new Uint8Array(65_536));
      Deno.writeFileSync(`${file}:large`, new Uint8Array(65_537));
      await run("touch", "-d", "1910-01-01 01:02:03.1234567 UTC", file);
      const value = await run("getfattr", "-n", "system.ntfs_crtime_be", "-e", "hex", file);
      born = BigInt(/=(0x[0-9a-f]+)/.exec(value)?.[1] ?? 0);
    }
    using device = new ImageDevice(image);
    const fileSystem = openImage(device);
    const inode = find(fileSystem, "file");
    const { modifiedNs, accessedNs, bornNs } = fileSystem.stat(inode);
    // ntfs-3g itself shows times before 1970 without their fractions.
    deepEqual([modifiedNs, accessedNs], [-1_893_452_276_876_543_300n, -1_893_452_276_876_543_300n]);
    equal(bornNs, (born - 116_444_736_000_000_000n) * 100n);
    const xattrs = fileSystem.xattrs(inode).map((
      { name, value },
    ) => [new TextDecoder().decode(name), value.length]);
    deepEqual(xattrs.sort(), [["user.just", 65_536], ["user.small", 5]]);
  },
);

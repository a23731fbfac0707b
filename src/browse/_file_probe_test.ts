import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { ContentRun, GuestDisk, GuestFileSystem, GuestStat } from "../guestfs/guest.ts";
import { MemoryDevice } from "../guestfs/_test_support.ts";
import { type FileProbe, probeFile } from "./_file_probe.ts";
import { NotingDevice } from "./_ranges.ts";

interface ToyFile {
  readonly type: GuestStat["type"];
  readonly size?: number;
  readonly runs?: readonly ContentRun[];
  readonly target?: string;
  readonly names?: Readonly<Record<string, number>>;
}

const ROOT = 2;

/** A file system on part of a disk whose files are a table. Reads block 1 of the disk whenever it is asked for an inode. */
function toySystem(
  device: MemoryDevice | NotingDevice,
  files: Record<number, ToyFile>,
  keepsChangeTimes = true,
): GuestFileSystem {
  const fileOf = (inode: number): ToyFile => {
    device.read(BLOCK_BYTES, new Uint8Array(10));
    const file = files[inode];
    if (file === undefined) throw new VarveError("not-found", `inode ${inode} is free`);
    return file;
  };
  return {
    kind: "toy",
    label: "",
    root: ROOT,
    keepsChangeTimes,
    space: { blockBytes: BLOCK_BYTES, blocks: 0, freeBlocks: 0, inodes: 0, freeInodes: 0 },
    stat: (inode) => ({
      inode,
      type: fileOf(inode).type,
      mode: 0o644,
      uid: 1,
      gid: 2,
      links: 1,
      sizeBytes: fileOf(inode).size ?? 0,
      blocks512: 0,
      rdev: 0,
      accessedNs: 7n,
      modifiedNs: 8n,
      changedNs: BigInt(inode),
    }),
    lookup: (directory, name) => fileOf(directory).names?.[new TextDecoder().decode(name)],
    readDirectory: (directory) =>
      Object.entries(fileOf(directory).names ?? {}).map(([name, inode]) => ({
        name: new TextEncoder().encode(name),
        inode,
        type: undefined,
      })),
    read: (_inode, offset, target) => {
      target.fill(offset % 251);
      return target.length;
    },
    readLink: (inode) => new TextEncoder().encode(fileOf(inode).target ?? ""),
    xattrs: () => [],
    map: (inode, offset) => {
      let at = 0;
      const runs = fileOf(inode).runs ?? [];
      return runs.filter((run) => (at += run.length) > offset);
    },
  };
}

interface Toy {
  readonly bytes?: Uint8Array;
  readonly files: Record<number, ToyFile>;
  readonly keepsChangeTimes?: boolean;
  readonly pieces?: readonly { offset: number; length: number }[];
  readonly name?: string;
}

const SIZE = 64 * BLOCK_BYTES;

function probe(toy: Toy, path: string): FileProbe {
  const device = new NotingDevice(new MemoryDevice(toy.bytes ?? new Uint8Array(SIZE)));
  const open = (opened: NotingDevice): GuestDisk => {
    const { files, pieces = [{ offset: 0, length: SIZE }], name = "" } = toy;
    const fileSystem = toySystem(opened, files, toy.keepsChangeTimes);
    const reason = "it is empty";
    const empty = { name: "p1", pieces: [], fileSystem: undefined, reason };
    return {
      table: name === "" ? "none" : "gpt",
      partitions: [{ name, pieces, fileSystem, reason: undefined }, ...(name === "" ? [] : [empty])],
    };
  };
  return probeFile(device, () => open(device), path);
}

const TREE: Record<number, ToyFile> = {
  2: { type: "directory", names: { a: 3, file: 4, link: 5, loop: 6, up: 7 } },
  3: { type: "directory", names: { b: 8 } },
  4: { type: "file", size: 10, runs: [{ kind: "stored", length: 10, deviceOffset: 5 * BLOCK_BYTES }] },
  5: { type: "symlink", target: "a" },
  6: { type: "symlink", target: "loop/x" },
  7: { type: "symlink", target: "/a/../a" },
  8: { type: "file", size: 0 },
  9: { type: "file", size: 3, runs: [] },
};

Deno.test("probeFile() follows links on the way and not at its end, and notes every step", () => {
  const steps = (path: string) =>
    probe({ files: TREE }, path).way.map(({ directory, found }) => [directory, found?.inode]);
  assert.deepEqual(steps("/a/b"), [[2, 3], [3, 8]]);
  assert.deepEqual(steps("link/b"), [[2, 5], [2, 3], [3, 8]]);
  assert.deepEqual(steps("/up/b"), [[2, 7], [2, 3], [2, 3], [3, 8]]);
  assert.deepEqual(steps("/"), []);
  assert.equal(probe({ files: TREE }, "/link").file?.type, "symlink");
  assert.deepEqual(probe({ files: TREE }, "/link").file?.target, new TextEncoder().encode("a"));
  assert.equal(probe({ files: TREE }, "/").file?.inode, 2);
});

Deno.test("probeFile() tells what is absent from what cannot be read", () => {
  const absent = probe({ files: TREE }, "/a/c/d");
  assert.equal(absent.state, "absent");
  assert.deepEqual(absent.way.at(-1), { directory: 3, directoryChangedNs: 3n, found: undefined });
  assert.equal(probe({ files: TREE }, "/file/below").state, "absent");
  for (const path of ["/loop/y", "/a/../b"]) {
    assert.equal(probe({ files: TREE }, path).state, "unreadable", path);
  }
  const gone = probe({ files: { ...TREE, 2: { type: "directory", names: { x: 77 } } } }, "/x");
  assert.deepEqual([gone.state, gone.reason], ["unreadable", "inode 77 is free"]);
  const short = probe({ files: { ...TREE, 2: { type: "directory", names: { x: 9 } } } }, "/x");
  assert.equal(short.state, "unreadable");
});

Deno.test("probeFile() finds the partition by its name, of several parts too", () => {
  assert.equal(probe({ files: TREE, name: "p2" }, "/p2/file").state, "present");
  assert.equal(probe({ files: TREE, name: "p2/root" }, "/p2/root/file").state, "present");
  assert.equal(probe({ files: TREE, name: "p2/root" }, "/p2/other/file").state, "absent");
  assert.equal(probe({ files: TREE, name: "p2" }, "/p3/file").state, "absent");
  const { state, reason } = probe({ files: TREE, name: "p2" }, "/p1/file");
  assert.deepEqual([state, reason], ["unreadable", "it is empty"]);
});

/** A disk with one file in it. */
function withFile(size: number, runs: readonly ContentRun[]): Record<number, ToyFile> {
  return { 2: { type: "directory", names: { file: 4 } }, 4: { type: "file", size, runs } };
}

Deno.test("probeFile() tells whole blocks by their place, and the edges of a run by what they hold", () => {
  const length = 3 * BLOCK_BYTES;
  const files = withFile(length, [{ kind: "stored", length, deviceOffset: 8 * BLOCK_BYTES - 100 }]);
  const bytes = new Uint8Array(SIZE);
  const plain = probe({ files, bytes }, "/file");
  assert.deepEqual(plain.stored, [{ offset: 8 * BLOCK_BYTES, length: 2 * BLOCK_BYTES }]);
  assert.ok(plain.complete);
  const placeWith = (at: number) => {
    const changed = new Uint8Array(SIZE);
    changed[at] = 1;
    return probe({ files, bytes: changed }, "/file").place;
  };
  for (const at of [8 * BLOCK_BYTES - 100, 8 * BLOCK_BYTES - 1, 10 * BLOCK_BYTES, 11 * BLOCK_BYTES - 101]) {
    assert.notEqual(placeWith(at), plain.place, `byte ${at} is the file's`);
  }
  for (const at of [8 * BLOCK_BYTES - 101, 11 * BLOCK_BYTES - 100, 9 * BLOCK_BYTES]) {
    assert.equal(placeWith(at), plain.place, `byte ${at} is not, or is told by who wrote it`);
  }
});

Deno.test("probeFile() tells where a file of several runs lies on a disk of several pieces", () => {
  const pieces = [
    { offset: 20 * BLOCK_BYTES, length: 4 * BLOCK_BYTES },
    { offset: 4 * BLOCK_BYTES, length: 8 * BLOCK_BYTES },
  ];
  const files = withFile(7 * BLOCK_BYTES, [
    { kind: "stored", length: 4 * BLOCK_BYTES, deviceOffset: 2 * BLOCK_BYTES },
    { kind: "hole", length: BLOCK_BYTES },
    { kind: "stored", length: 2 * BLOCK_BYTES, deviceOffset: 8 * BLOCK_BYTES },
  ]);
  assert.deepEqual(probe({ files, pieces }, "/file").stored, [
    { offset: 4 * BLOCK_BYTES, length: 2 * BLOCK_BYTES },
    { offset: 8 * BLOCK_BYTES, length: 2 * BLOCK_BYTES },
    { offset: 22 * BLOCK_BYTES, length: 2 * BLOCK_BYTES },
  ]);
});

Deno.test("probeFile() reads bounded content that only the reader can make, and says when that is not all", () => {
  const made = (length: number) => withFile(length, [{ kind: "made", length }]);
  assert.ok(probe({ files: made(5000), keepsChangeTimes: false }, "/file").complete);
  const large = made(20 * 1024 * 1024);
  assert.ok(!probe({ files: large, keepsChangeTimes: false }, "/file").complete);
  assert.ok(probe({ files: large }, "/file").complete, "its time of change tells of it");
  const pieces = [{ offset: 0, length: SIZE }];
  const runs = new Array<ContentRun>(70_000).fill({
    kind: "stored",
    length: BLOCK_BYTES,
    deviceOffset: BLOCK_BYTES,
  });
  const scattered = withFile(runs.length * BLOCK_BYTES, runs);
  assert.ok(!probe({ files: scattered, pieces }, "/file").complete);
});

Deno.test("probeFile() notes what it was read from, a directory's names too where no time tells of them", () => {
  assert.deepEqual(probe({ files: TREE }, "/a/b").read, [{ offset: BLOCK_BYTES, length: BLOCK_BYTES }]);
  const placeOf = (names: Record<string, number>, keepsChangeTimes: boolean) =>
    probe({ files: { 2: { type: "directory", names } }, keepsChangeTimes }, "/").place;
  assert.notEqual(placeOf({ a: 3 }, false), placeOf({ b: 3 }, false));
  assert.notEqual(placeOf({ a: 3 }, false), placeOf({ a: 4 }, false));
  assert.equal(placeOf({ a: 3 }, true), placeOf({ b: 3 }, true));
});

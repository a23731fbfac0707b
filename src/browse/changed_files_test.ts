import assert from "node:assert/strict";
import fc from "fast-check";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { ContentRun, GuestDisk, GuestFileSystem, GuestStat } from "../guestfs/guest.ts";
import { MemoryDevice } from "../guestfs/_test_support.ts";
import {
  changedFiles,
  type ChangedFilesOptions,
  type ComparedMoments,
  type FileChange,
} from "./changed_files.ts";

/** A file of the toy. Its content is one block, which a write in place keeps and any other write moves. */
interface Node {
  readonly inode: number;
  readonly type: "file" | "directory" | "symlink";
  readonly born: number;
  mode: number;
  changed: number;
  modified: number;
  block: number;
  size: number;
  target: string;
  children: Map<string, number>;
  isDamaged: boolean;
}

const BLOCKS = 512;
const BLOCKS_BEFORE_CONTENT = 16;

class ToyDisk {
  nodes: Map<number, Node> = new Map();
  /** When each block was written last. */
  readonly written: number[] = new Array(BLOCKS).fill(0);
  readonly keepsChangeTimes: boolean;
  readonly keepsBirth: boolean;
  clock = 0;
  listed: number[] = [];
  #nextBlock = BLOCKS_BEFORE_CONTENT;
  #nextInode = 2;
  readonly #free: number[] = [];

  constructor(keepsChangeTimes: boolean, keepsBirth: boolean) {
    this.keepsChangeTimes = keepsChangeTimes;
    this.keepsBirth = keepsBirth;
    this.make("directory");
  }

  make(type: Node["type"]): Node {
    const inode = this.#free.pop() ?? this.#nextInode++;
    const node: Node = {
      inode,
      type,
      born: this.clock,
      mode: 0o644,
      changed: this.clock,
      modified: this.clock,
      block: 0,
      size: 0,
      target: `to ${this.clock}`,
      children: new Map(),
      isDamaged: false,
    };
    this.nodes.set(inode, node);
    this.written[0] = this.clock;
    return node;
  }

  node(inode: number): Node {
    const node = this.nodes.get(inode);
    if (node === undefined) throw new VarveError("not-found", `inode ${inode} is free`);
    return node;
  }

  /** Directories with their paths, and all other names. */
  names(inode = 2, path = ""): { path: string; parent: number; name: string; node: Node }[] {
    return [...this.node(inode).children].flatMap(([name, child]) => {
      const node = this.node(child);
      const each = { path: `${path}/${name}`, parent: inode, name, node };
      return [each, ...(node.type === "directory" ? this.names(child, each.path) : [])];
    });
  }

  write(node: Node, inPlace: boolean): void {
    if (!inPlace || node.block === 0) node.block = this.#nextBlock++;
    this.written[node.block] = this.clock;
  }

  remove(inode: number): void {
    for (const child of this.node(inode).children.values()) this.remove(child);
    this.nodes.delete(inode);
    this.#free.push(inode);
    this.written[0] = this.clock;
  }

  copy(): ToyDisk {
    const copy = new ToyDisk(this.keepsChangeTimes, this.keepsBirth);
    copy.nodes = new Map(
      [...this.nodes].map(([inode, node]) => [inode, { ...node, children: new Map(node.children) }]),
    );
    return copy;
  }

  open(): GuestDisk {
    const fileSystem: GuestFileSystem = {
      kind: "toy",
      label: "",
      root: 2,
      keepsChangeTimes: this.keepsChangeTimes,
      space: { blockBytes: BLOCK_BYTES, blocks: 0, freeBlocks: 0, inodes: 0, freeInodes: 0 },
      stat: (inode): GuestStat => {
        const node = this.node(inode);
        return {
          inode,
          type: node.type,
          mode: node.mode,
          uid: 0,
          gid: 0,
          links: 1,
          sizeBytes: node.size,
          blocks512: 0,
          rdev: 0,
          accessedNs: BigInt(this.clock),
          modifiedNs: BigInt(node.modified),
          changedNs: this.keepsChangeTimes ? BigInt(node.changed) : 0n,
          ...(this.keepsBirth ? { bornNs: BigInt(node.born) } : {}),
        };
      },
      lookup: (directory, name) => this.node(directory).children.get(new TextDecoder().decode(name)),
      readDirectory: (directory) => {
        const { children, isDamaged } = this.node(directory);
        if (isDamaged) throw new VarveError("damaged", `directory ${directory} is torn`);
        this.listed.push(directory);
        return Array.from(
          children,
          ([name, inode]) => ({ name: new TextEncoder().encode(name), inode, type: undefined }),
        );
      },
      read: () => assert.fail("content is never read to be compared"),
      readLink: (inode) => new TextEncoder().encode(this.node(inode).target),
      xattrs: () => [],
      map: (inode, offset, length): ContentRun[] => {
        const { block } = this.node(inode);
        if (block === 0) return [{ kind: "hole", length }];
        return [{ kind: "stored", length, deviceOffset: block * BLOCK_BYTES + offset }];
      },
    };
    const pieces = [{ offset: 0, length: BLOCKS * BLOCK_BYTES }];
    return { table: "none", partitions: [{ name: "", pieces, fileSystem, reason: undefined }] };
  }
}

const KINDS = ["file", "folder", "link", "remove", "move", "write", "overwrite", "chmod"] as const;
const operation = fc.record({
  kind: fc.constantFrom(...KINDS),
  which: fc.nat(1000),
  where: fc.nat(1000),
  name: fc.nat(5),
});
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

function apply(disk: ToyDisk, { kind, which, where, name: letter }: Operation): void {
  disk.clock++;
  const names = disk.names();
  const folders = [
    { path: "", node: disk.node(2) },
    ...names.filter(({ node }) => node.type === "directory"),
  ];
  const folder = folders[where % folders.length] ?? assert.fail();
  const name = "abcdef"[letter] ?? "a";
  const touch = (node: Node) => {
    node.changed = node.modified = disk.clock;
    disk.written[0] = disk.clock;
  };
  if (kind === "file" || kind === "folder" || kind === "link") {
    if (folder.node.children.has(name)) return;
    const node = disk.make(({ file: "file", folder: "directory", link: "symlink" } as const)[kind]);
    folder.node.children.set(name, node.inode);
    if (kind === "file") {
      node.size = BLOCK_BYTES;
      disk.write(node, false);
    }
    touch(folder.node);
    return;
  }
  const chosen = names[which % names.length];
  if (chosen === undefined) return;
  const { node } = chosen;
  const parent = disk.node(chosen.parent);
  if (kind === "remove") {
    parent.children.delete(chosen.name);
    disk.remove(node.inode);
    touch(parent);
  } else if (kind === "move") {
    if (folder.node.children.has(name) || `${folder.path}/`.startsWith(`${chosen.path}/`)) return;
    parent.children.delete(chosen.name);
    folder.node.children.set(name, node.inode);
    node.changed = disk.clock;
    for (const each of [parent, folder.node]) touch(each);
  } else if (kind === "chmod") {
    node.mode ^= 0o100;
    node.changed = disk.clock;
    disk.written[0] = disk.clock;
  } else if (node.type === "file") {
    disk.write(node, kind === "overwrite");
    // Data may reach the disk long after the times that belong to it.
    if (kind === "write") touch(node);
  }
}

function momentsOf(before: ToyDisk, after: ToyDisk, sinceClock: number): ComparedMoments {
  const device = new MemoryDevice(new Uint8Array(BLOCKS * BLOCK_BYTES));
  return {
    from: { device, open: () => before.open() },
    to: { device, open: () => after.open() },
    isTouched: (ranges) =>
      ranges.some(({ offset, length }) =>
        after.written.slice(Math.floor(offset / BLOCK_BYTES), Math.ceil((offset + length) / BLOCK_BYTES))
          .some((clock) => clock > sinceClock)
      ),
  };
}

/** How a comparison ends, and each change as a line. */
async function told(
  moments: ComparedMoments,
  options?: ChangedFilesOptions,
): Promise<{ lines: string[]; end: unknown }> {
  const lines: string[] = [];
  const changes = changedFiles(moments, options);
  while (true) {
    const { done, value } = await changes.next();
    if (done) return { lines: lines.sort(), end: value };
    lines.push(lineOf(value));
  }
}

function lineOf({ kind, path, formerPath, contentChanged, type }: FileChange): string {
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const from = formerPath === undefined ? "" : ` from ${text(formerPath)}`;
  const content = contentChanged === undefined ? "" : contentChanged ? " content" : " attributes";
  return `${kind} ${type} ${text(path)}${from}${content}`;
}

/** The same, by a look at both trees in whole. */
function expected(before: ToyDisk, after: ToyDisk, sinceClock: number): string[] {
  const root = (disk: ToyDisk) => ({ path: "/", parent: 0, name: "", node: disk.node(2) });
  const [old, now] = [before, after].map((disk) => [root(disk), ...disk.names()]);
  const isSame = (a: Node, b: Node) => a.inode === b.inode && a.born === b.born && a.type === b.type;
  const lines: string[] = [];
  const lone = { gone: new Map<string, string>(), fresh: new Map<string, string>() };
  const bornOf = (disk: ToyDisk, inode: number) => disk.nodes.get(inode)?.born;
  for (const is of now ?? []) {
    const { path, node } = is;
    const was = old?.find((each) => isSame(each.node, node));
    if (was === undefined) {
      lone.fresh.set(`${node.type} ${path}`, path);
      continue;
    }
    const content = node.type === "file" &&
      (was.node.block !== node.block || (after.written[node.block] ?? 0) > sinceClock);
    const attributes = was.node.mode !== node.mode ||
      (node.type !== "directory" &&
        ((after.keepsChangeTimes && was.node.changed !== node.changed) ||
          was.node.modified !== node.modified));
    const isParentSame = was.parent === is.parent && bornOf(before, was.parent) === bornOf(after, is.parent);
    const isMoved = !(isParentSame && was.name === is.name) && was.path !== path;
    const how = content ? "content" : "attributes";
    if (isMoved) lines.push(`renamed ${node.type} ${path} from ${was.path} ${how}`);
    else if (content || attributes) lines.push(`changed ${node.type} ${path} ${how}`);
  }
  for (const { path, node } of old ?? []) {
    if (!now?.some((each) => isSame(node, each.node))) lone.gone.set(`${node.type} ${path}`, path);
  }
  for (const [key, path] of lone.fresh) {
    const [type = ""] = key.split(" ");
    const isReplaced = lone.gone.delete(key);
    lines.push(
      isReplaced
        ? `changed ${key} ${type === "directory" ? "attributes" : "content"}`
        : `created ${type} ${path}`,
    );
  }
  for (const key of lone.gone.keys()) lines.push(`deleted ${key}`);
  return lines.sort();
}

Deno.test("changedFiles() tells what a look at both trees in whole tells: created, deleted, changed, replaced, renamed", async () => {
  const input = [
    fc.array(operation, { maxLength: 40 }),
    fc.array(operation, { maxLength: 25 }),
    fc.boolean(),
  ] as const;
  await fc.assert(
    fc.asyncProperty(...input, async (first, second, keepsChangeTimes) => {
      const disk = new ToyDisk(keepsChangeTimes, true);
      for (const each of first) apply(disk, each);
      const [before, since] = [disk.copy(), disk.clock];
      for (const each of second) apply(disk, each);
      const { lines, end } = await told(momentsOf(before, disk, since));
      assert.deepEqual(lines, expected(before, disk, since));
      const { truncated, renamesComplete } = end as { truncated: boolean; renamesComplete: boolean };
      assert.deepEqual([truncated, renamesComplete], [false, true]);
    }),
    { numRuns: 1000 },
  );
});

/** A disk with two folders of files. */
function someDisk(options: { keepsChangeTimes?: boolean; keepsBirth?: boolean } = {}): ToyDisk {
  const disk = new ToyDisk(options.keepsChangeTimes ?? true, options.keepsBirth ?? true);
  for (const name of [0, 1]) apply(disk, { kind: "folder", which: 0, where: 0, name });
  for (const where of [1, 2]) {
    for (const name of [2, 3, 4]) apply(disk, { kind: "file", which: 0, where, name });
  }
  return disk;
}

Deno.test("changedFiles() opens nothing when nothing was touched, and lists an unchanged directory once", async () => {
  const disk = someDisk();
  const before = disk.copy();
  const moments = momentsOf(before, disk, disk.clock);
  const never = { ...moments, from: { ...moments.from, open: () => assert.fail("it was opened") } };
  assert.deepEqual((await told(never)).lines, []);
  const since = disk.clock++;
  const folder = disk.node(2).children.get("a") ?? 0;
  const file = disk.node(disk.node(folder).children.get("c") ?? 0);
  file.mode ^= 1;
  file.changed = disk.written[0] = disk.clock;
  const { lines } = await told(momentsOf(before, disk, since));
  assert.deepEqual(lines, ["changed file /a/c attributes"]);
  assert.deepEqual(before.listed, []);
  assert.equal(disk.listed.length, 3);
});

Deno.test("changedFiles() tells content that came to a file by its map alone, written before the earlier moment", async () => {
  const disk = someDisk();
  const file = disk.node(disk.node(disk.node(2).children.get("a") ?? 0).children.get("c") ?? 0);
  const { block } = file;
  file.block = 0;
  const [before, since] = [disk.copy(), disk.clock++];
  file.block = block;
  disk.written[0] = disk.clock;
  assert.deepEqual((await told(momentsOf(before, disk, since))).lines, ["changed file /a/c content"]);
});

Deno.test("changedFiles() tells a directory that cannot be read, and goes on with the others", async () => {
  const disk = someDisk();
  const [before, since] = [disk.copy(), disk.clock];
  disk.clock++;
  const [one = 0, other = 0] = disk.node(2).children.values();
  disk.node(one).isDamaged = true;
  const file = disk.node(disk.node(other).children.get("d") ?? 0);
  disk.write(file, true);
  const { lines } = await told(momentsOf(before, disk, since));
  assert.deepEqual(lines, ["changed file /b/d content", "unreadable directory /a"]);
});

Deno.test("changedFiles() of a path tells what is below it alone", async () => {
  const disk = someDisk();
  const [before, since] = [disk.copy(), disk.clock];
  for (const where of [1, 2]) apply(disk, { kind: "file", which: 0, where, name: 5 });
  assert.deepEqual((await told(momentsOf(before, disk, since), { path: "/b" })).lines, ["created file /b/f"]);
  assert.deepEqual((await told(momentsOf(before, disk, since), { path: "b/f" })).lines, [
    "created file /b/f",
  ]);
  assert.deepEqual((await told(momentsOf(before, disk, since), { path: "/none" })).lines, []);
});

Deno.test("changedFiles() takes no reused inode for a rename where the guest keeps no time of birth", async () => {
  const disk = someDisk({ keepsBirth: false });
  const [before, since] = [disk.copy(), disk.clock];
  apply(disk, { kind: "remove", which: 1, where: 0, name: 0 });
  apply(disk, { kind: "file", which: 0, where: 2, name: 5 });
  assert.deepEqual((await told(momentsOf(before, disk, since))).lines, [
    "created file /b/f",
    "deleted file /a/c",
  ]);
});

Deno.test("changedFiles() stops at its limits and says so", async () => {
  const disk = someDisk();
  const [before, since] = [disk.copy(), disk.clock];
  for (const where of [1, 2]) apply(disk, { kind: "file", which: 0, where, name: 5 });
  apply(disk, { kind: "move", which: 1, where: 2, name: 0 });
  const some = await told(momentsOf(before, disk, since), { changesMax: 2 });
  assert.equal(some.lines.length, 2);
  assert.equal((some.end as { truncated: boolean }).truncated, true);
  const all = await told(momentsOf(before, disk, since), { changesMax: 3 });
  assert.equal((all.end as { truncated: boolean }).truncated, false);
  assert.ok(all.lines.some((line) => line.startsWith("renamed")));
  const few = await told(momentsOf(before, disk, since), { waitingMax: 1 });
  assert.equal((few.end as { renamesComplete: boolean }).renamesComplete, false);
  assert.equal(few.lines.length, 4, "a rename is told as a deletion and a creation");
  const aborted = told(momentsOf(before, disk, since), { signal: AbortSignal.abort(new Error("enough")) });
  await assert.rejects(aborted, /enough/);
});

Deno.test("changedFiles() ends on a tree that leads in circles", async () => {
  const disk = someDisk();
  const [before, since] = [disk.copy(), disk.clock];
  disk.clock++;
  const [one = 0] = disk.node(2).children.values();
  for (const tree of [before, disk]) {
    for (const name of ["x", "y", "z"]) tree.node(one).children.set(name, 2);
  }
  disk.written[0] = disk.clock;
  assert.deepEqual((await told(momentsOf(before, disk, since))).lines, []);
  const circle = disk.make("directory");
  for (const name of ["x", "y"]) circle.children.set(name, circle.inode);
  disk.node(2).children.set("new", circle.inode);
  disk.node(2).changed = disk.clock;
  const { lines } = await told(momentsOf(before, disk, since));
  assert.deepEqual(lines, ["created directory /new", "created directory /new/x", "created directory /new/y"]);
});

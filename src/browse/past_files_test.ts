import assert from "node:assert/strict";
import { VarveError } from "../base/errors.ts";
import { directDisk } from "./direct_disk.ts";
import type { GuestFileSystem, GuestFileType, GuestPartition } from "../guestfs/guest.ts";
import { PastFiles } from "./past_files.ts";

/** A directory as an object, a file as its content, a symbolic link as `-> target`. */
interface Tree {
  [name: string]: Tree | string;
}

function fileSystemOf(tree: Tree): GuestFileSystem {
  const nodes: (Tree | string)[] = [tree];
  const numbers = new Map<Tree | string, number>([[tree, 0]]);
  const numberOf = (node: Tree | string) => {
    let inode = typeof node === "string" ? undefined : numbers.get(node);
    if (inode === undefined) {
      inode = nodes.push(node) - 1;
      if (typeof node !== "string") numbers.set(node, inode);
    }
    return inode;
  };
  const nodeOf = (inode: number) => nodes[inode] ?? {};
  const typeOf = (node: Tree | string): GuestFileType =>
    typeof node !== "string" ? "directory" : node.startsWith("-> ") ? "symlink" : "file";
  const bytesOf = (inode: number) => new TextEncoder().encode(String(nodeOf(inode)));
  return {
    kind: "fake",
    label: "",
    root: 0,
    keepsChangeTimes: true,
    space: { blockBytes: 1, blocks: 0, freeBlocks: 0, inodes: 0, freeInodes: 0 },
    stat: (inode) => ({
      inode,
      type: typeOf(nodeOf(inode)),
      mode: 0o4755,
      uid: 1,
      gid: 2,
      links: 1,
      sizeBytes: bytesOf(inode).length,
      blocks512: 0,
      rdev: 0,
      accessedNs: 0n,
      modifiedNs: inode === 0 ? -1n : 1_500_000_001n,
      changedNs: 0n,
    }),
    lookup: (directory, name) => {
      const child = (nodeOf(directory) as Tree)[new TextDecoder().decode(name)];
      return child === undefined ? undefined : numberOf(child);
    },
    readDirectory: (directory) =>
      Object.entries(nodeOf(directory)).map(([name, child]) => ({
        name: new TextEncoder().encode(name),
        inode: numberOf(child),
        type: undefined,
      })),
    read: (inode, offset, target) => {
      const part = bytesOf(inode).subarray(offset, offset + target.length);
      target.set(part);
      return part.length;
    },
    readLink: (inode) => bytesOf(inode).slice(3),
    xattrs: () => [],
    map: () => [],
  };
}

function partition(name: string, content: Tree | string): GuestPartition {
  return typeof content === "string"
    ? { name, pieces: [], fileSystem: undefined, reason: content }
    : { name, pieces: [], fileSystem: fileSystemOf(content), reason: undefined };
}

const TREE: Tree = {
  etc: { hosts: "127.0.0.1", deep: { a: "A" } },
  file: "hello",
  toFile: "-> file",
  toDeep: "-> etc/deep",
  absolute: "-> /etc/deep/../hosts",
  outside: "-> ../../../../file",
  dangling: "-> none",
  loop: "-> loop2",
  loop2: "-> loop",
  "ü": "umlaut",
};

function filesOf(tree: Tree = TREE): PastFiles {
  return new PastFiles(directDisk({ table: "none", partitions: [partition("", tree)] }));
}

async function pathOf(path: string, follow = true): Promise<string> {
  return (await filesOf().find(path, { follow })).file.path;
}

Deno.test("PastFiles finds files by path, with dots and doubled slashes", async () => {
  const cases: [string, string][] = [
    ["", "/"],
    ["/", "/"],
    ["/file", "/file"],
    ["etc//./hosts", "/etc/hosts"],
    ["/etc/deep/../hosts", "/etc/hosts"],
    ["/../../file", "/file"],
    ["/etc/..", "/"],
    ["/ü", "/ü"],
  ];
  for (const [path, found] of cases) assert.equal(await pathOf(path), found, path);
  assert.equal((await filesOf().find("/etc/hosts", { follow: true })).file.name, "hosts");
});

Deno.test("PastFiles follows symbolic links, never out of the partition, the last one only when asked", async () => {
  const cases: [string, boolean, string][] = [
    ["/toFile", true, "/file"],
    ["/toFile", false, "/toFile"],
    ["/toDeep/a", false, "/etc/deep/a"],
    ["/toDeep/../hosts", true, "/etc/hosts"],
    ["/absolute", true, "/etc/hosts"],
    ["/outside", true, "/file"],
    ["/dangling", false, "/dangling"],
    ["/loop", false, "/loop"],
  ];
  for (const [path, follow, found] of cases) {
    assert.equal(await pathOf(path, follow), found, `${path} ${follow}`);
  }
  assert.equal((await filesOf().find("/toFile", { follow: false })).file.target, "file");
  await assert.rejects(() => pathOf("/loop"), { name: "VarveError", code: "invalid" });
  await assert.rejects(() => pathOf("/dangling"), { name: "VarveError", code: "not-found" });
});

Deno.test("PastFiles says what is not there", async () => {
  for (const path of ["/none", "/etc/none/x", "/file/x", "/file/..", "/file/../file", "/toFile/x"]) {
    await assert.rejects(() => pathOf(path), { name: "VarveError", code: "not-found", field: "path" }, path);
  }
});

Deno.test("PastFiles describes files and lists directories by name", async () => {
  const files = filesOf();
  const { file } = await files.find("/file", { follow: true });
  assert.deepEqual(file, {
    name: "file",
    path: "/file",
    type: "file",
    sizeBytes: 5,
    mode: "4755",
    uid: 1,
    gid: 2,
    links: 1,
    inode: file.inode,
    modifiedAt: "1970-01-01T00:00:01.500000001Z",
  });
  const root = await files.find("/", { follow: true });
  assert.equal(root.file.modifiedAt, "1969-12-31T23:59:59.999999999Z");
  const names = (await files.entries(root)).map(({ name }) => name);
  assert.deepEqual(names, Object.keys(TREE).sort());
  assert.deepEqual(
    (await files.entries(await files.find("/toDeep", { follow: true }))).map(({ path }) => path),
    [
      "/etc/deep/a",
    ],
  );
});

Deno.test("PastFiles reads parts of a file, short only at its end, and refuses directories", async () => {
  const files = filesOf();
  const found = await files.find("/file", { follow: true });
  const read = async (offset: number, length: number) =>
    new TextDecoder().decode(await files.read(found, offset, length));
  assert.deepEqual([
    await read(0, 5),
    await read(1, 3),
    await read(3, 99),
    await read(5, 1),
    await read(99, 1),
  ], [
    "hello",
    "ell",
    "lo",
    "",
    "",
  ]);
  for (const path of ["/", "/etc"]) {
    await assert.rejects(async () => files.read(await files.find(path, { follow: true }), 0, 1), {
      name: "VarveError",
      code: "invalid",
    });
  }
});

Deno.test("PastFiles shows a folder for each partition, and why one cannot be read", async () => {
  const files = new PastFiles(directDisk({
    table: "gpt",
    partitions: [
      partition("p1", { a: "-> /b", b: "B" }),
      partition("p2", "it holds swap"),
      partition("p3/root", { c: "C" }),
      partition("p3/home", { d: "D" }),
    ],
  }));
  const root = await files.find("/", { follow: true });
  assert.deepEqual((await files.entries(root)).map(({ name, path, type }) => [name, path, type]), [
    ["p1", "/p1", "directory"],
    ["p2", "/p2", "directory"],
    ["p3", "/p3", "directory"],
  ]);
  const third = await files.find("/p3", { follow: true });
  assert.deepEqual((await files.entries(third)).map(({ path }) => path), ["/p3/root", "/p3/home"]);
  assert.equal((await files.find("/p3/home/d", { follow: true })).file.path, "/p3/home/d");
  assert.equal((await files.find("/p1/a", { follow: true })).file.path, "/p1/b");
  assert.equal((await files.find("/p1/../../b", { follow: true })).file.path, "/p1/b");
  assert.deepEqual((await files.entries(await files.find("/p1", { follow: true }))).map(({ path }) => path), [
    "/p1/a",
    "/p1/b",
  ]);
  await assert.rejects(() => files.find("/p4", { follow: true }), { name: "VarveError", code: "not-found" });
  await assert.rejects(
    () => files.find("/p2/x", { follow: true }),
    (thrown) =>
      thrown instanceof VarveError && thrown.code === "unsupported" &&
      thrown.message.includes("it holds swap"),
  );
  await assert.rejects(() => files.read(root, 0, 1), { name: "VarveError", code: "invalid" });
});

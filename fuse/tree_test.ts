import assert from "node:assert/strict";
import { VarveError } from "../src/base/errors.ts";
import type { GuestDisk } from "../src/guestfs/guest.ts";
import { mountToys } from "./_mounting.ts";
import { ToyFileSystem, ToyHistory, type ToyMoment, type ToyVolumes, wholeDisk } from "./_testing.ts";
import type { FileSystem, Found } from "./filesystem.ts";
import { makeTree, type TreeOptions } from "./tree.ts";
import { nameBytes } from "./virtual.ts";

function moment(time: string, content: string, more: Partial<ToyMoment> = {}): ToyMoment {
  return { time, disk: wholeDisk({ 2: { names: { file: 3 } }, 3: { content } }), ...more };
}

function makeToyTree(volumes: ToyVolumes, options: Partial<TreeOptions> = {}) {
  const history = new ToyHistory(volumes);
  return { history, tree: makeTree(history, { nowMs: () => 0, ...options }) };
}

/** Looks a path up from the root, name by name. */
async function find(tree: FileSystem, path: string): Promise<Found | undefined> {
  let found: Found | undefined;
  for (const name of path.split("/")) {
    const directory = found === undefined ? tree.root : found.node;
    assert.equal(directory.kind, "directory");
    found = await directory.lookup(nameBytes(name));
    if (found === undefined) return undefined;
  }
  return found;
}

async function linkTarget(tree: FileSystem, path: string): Promise<string | undefined> {
  const node = (await find(tree, path))?.node;
  return node?.kind === "symlink" ? new TextDecoder().decode(await node.target()) : undefined;
}

Deno.test("points/ lists times with milliseconds, and with more where points share one", async () => {
  await using mounted = await mountToys({
    v: {
      moments: {
        1: moment("2026-11-22T10:15:00.123999Z", "one"),
        2: moment("2026-11-22T10:15:00.124000Z", "two"),
        3: moment("2026-11-22T10:15:00.124001Z", "three"),
        4: moment("2026-11-22T10:15:00.200000Z", "unlisted", { listed: false }),
      },
    },
  });
  assert.equal(
    await mounted.sh(`cd v/points; ls; for point in *; do cat $point/file; echo; done; ls ../images`),
    [
      "2026-11-22T10:15:00.123Z\n2026-11-22T10:15:00.124000Z\n2026-11-22T10:15:00.124001Z",
      "one\ntwo\nthree",
      "2026-11-22T10:15:00.123Z.img\n2026-11-22T10:15:00.124000Z.img\n2026-11-22T10:15:00.124001Z.img",
    ].join("\n"),
  );
});

Deno.test("a moment that cannot be opened yet is a folder with a README, until it can be", async () => {
  const time = "2026-11-22T10:15:00.000000Z";
  const { history, tree } = makeToyTree({ v: { moments: { 1: moment(time, "one") } } });
  const open = history.open.bind(history);
  history.open = () =>
    Promise.reject(new VarveError("conflict", "read sequence 1: 5 of 9 bytes are copied", { hint: "Wait." }));
  for (const path of ["v/points/2026-11-22T10:15:00.000Z", "v/at/seq:1"]) {
    const folder = await find(tree, path);
    assert.equal(folder?.nameSeconds, 0, "the kernel asks again each time");
    assert.equal(await find(tree, `${path}/file`), undefined);
    const readme = (await find(tree, `${path}/README`))?.node;
    assert.equal(readme?.kind, "file");
    const bytes = new Uint8Array(1000);
    const length = await (await readme.open()).read(0, bytes);
    assert.equal(
      new TextDecoder().decode(bytes.subarray(0, length)),
      "This moment cannot be opened yet: read sequence 1: 5 of 9 bytes are copied\nWait.\n",
    );
  }
  await assert.rejects(find(tree, "v/images/2026-11-22T10:15:00.000Z.img"), /5 of 9 bytes/);
  const before = await find(tree, "v/at/seq:1");
  history.open = open;
  const after = await find(tree, "v/at/seq:1");
  assert.notEqual(
    after?.attributes.inode,
    before?.attributes.inode,
    "the kernel must not mistake one for the other",
  );
  assert.notEqual(await find(tree, "v/at/seq:1/file"), undefined);
});

Deno.test("points/ finds a time that is not listed, in any RFC 3339 form", async () => {
  const { tree } = makeToyTree({
    v: {
      moments: {
        1: moment("2026-11-22T10:15:00.000000Z", "one"),
        2: moment("2026-11-22T10:16:00.000000Z", "two", { listed: false }),
        3: moment("2026-11-22T10:17:00.500000Z", "three"),
        4: moment("2026-11-22T10:17:00.500001Z", "four"),
      },
    },
  });
  const inodeOfFile = async (path: string) => (await find(tree, `${path}/file`))?.attributes.inode;
  const second = await inodeOfFile("v/at/seq:2");
  assert.notEqual(second, undefined);
  for (const name of ["2026-11-22T10:16:00Z", "2026-11-22T11:16:30.5+01:00", "2026-11-22t10:16:00.000000z"]) {
    assert.equal(await inodeOfFile(`v/points/${name}`), second, name);
    assert.notEqual(await find(tree, `v/images/${name}.img`), undefined, name);
  }
  for (const name of ["now", "seq:2", "2020-01-01T00:00:00Z", "2026-11-22", "2026-13-22T10:16:00Z"]) {
    assert.equal(await find(tree, `v/points/${name}`), undefined, name);
  }
  // Two points share this millisecond: it names neither, and must not lead back to the second moment.
  assert.equal(await find(tree, "v/points/2026-11-22T10:17:00.500Z"), undefined);
});

Deno.test("marks/ leads to the listed name of the point, however it is spelt", async () => {
  const { tree, history } = makeToyTree({
    v: {
      moments: {
        1: moment("2026-11-22T10:15:00.000000Z", "one", { mark: "alone" }),
        2: moment("2026-11-22T10:16:00.000001Z", "two", { mark: "shares a millisecond" }),
        3: moment("2026-11-22T10:16:00.000002Z", "three"),
        4: moment("2026-11-22T10:17:00.000000Z", "four", { mark: "same microsecond" }),
        5: moment("2026-11-22T10:17:00.000000Z", "five"),
      },
    },
  });
  assert.equal(await linkTarget(tree, "v/marks/alone"), "../points/2026-11-22T10:15:00.000Z");
  assert.equal(
    await linkTarget(tree, "v/marks/shares a millisecond"),
    "../points/2026-11-22T10:16:00.000001Z",
  );
  assert.equal(await linkTarget(tree, "v/marks/same microsecond"), "../at/seq:4");
  assert.equal(await find(tree, "v/marks/none"), undefined);

  const later = moment("2026-11-22T10:18:00.000000Z", "six", { mark: "alone" });
  history.volumes["v"] = { moments: { 6: later } };
  assert.equal(await linkTarget(tree, "v/marks/alone"), "../points/2026-11-22T10:18:00.000Z");
});

/** For so long the kernel keeps a name that moves on. */
function instant(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 30));
}

Deno.test("what appears, moves and goes is seen at once", async () => {
  await using mounted = await mountToys({
    v: { moments: { 1: moment("2026-11-22T10:15:00.000000Z", "one\n", { mark: "a" }) } },
  });
  const { sh, history } = mounted;
  assert.equal(
    await sh(`cat v/at/now/file v/marks/a/file; ls v/marks v/at; cat v/marks/b/file`),
    [
      "one\none\nv/at:\n\nv/marks:\na\ncat: v/marks/b/file: No such file or directory",
    ].join("\n"),
  );
  history.volumes["v"] = {
    moments: { 2: moment("2026-11-22T10:16:00.000000Z", "two\n", { mark: "b" }) },
  };
  await instant();
  assert.equal(await sh(`cat v/at/now/file v/marks/b/file; ls v/marks; readlink v/marks/a`), "two\ntwo\nb");
});

Deno.test("a reader inside at/now stays in its moment", async () => {
  await using mounted = await mountToys({
    v: { moments: { 1: moment("2026-11-22T10:15:00.000000Z", "one\n") } },
  });
  const inside = new Deno.Command("sh", {
    args: [
      "-c",
      `cd '${mounted.path}/v/at/now'; echo in; read go; cat file; cat '${mounted.path}/v/at/now/file'`,
    ],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = inside.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assert.equal((await reader.read()).value, "in\n");
  mounted.history.volumes["v"] = {
    moments: {
      1: moment("2026-11-22T10:15:00.000000Z", "one\n"),
      2: moment("2026-11-22T10:16:00.000000Z", "two\n"),
    },
  };
  await instant();
  await mounted.sh("ls v/at/now");
  const writer = inside.stdin.getWriter();
  await writer.write(new TextEncoder().encode("go\n"));
  await writer.close();
  let rest = "";
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) rest += chunk.value;
  await inside.status;
  assert.equal(rest, "one\ntwo\n");
});

Deno.test("a file is one node at every path into its moment; a folder is one per path", async () => {
  const { tree } = makeToyTree({
    v: {
      moments: {
        1: moment("2026-11-22T10:15:00.000000Z", "one"),
        2: moment("2026-11-22T10:16:00.000000Z", ""),
      },
    },
  });
  const [point, at, other] = await Promise.all(
    ["v/points/2026-11-22T10:15:00.000Z", "v/at/seq:1", "v/at/seq:2"].map((path) => find(tree, path)),
  );
  assert.notEqual(point?.node.key, at?.node.key);
  assert.equal(point?.attributes.inode, at?.attributes.inode);
  assert.notEqual(point?.attributes.inode, other?.attributes.inode);

  const files = await Promise.all(
    ["v/points/2026-11-22T10:15:00.000Z/file", "v/at/seq:1/file", "v/at/seq:2/file"].map((path) =>
      find(tree, path)
    ),
  );
  assert.equal(files[0]?.node.key, files[1]?.node.key);
  assert.notEqual(files[0]?.node.key, files[2]?.node.key);
});

Deno.test("a partition table shows one folder per partition, and a text where there is no file system", async () => {
  const disk: GuestDisk = {
    table: "gpt",
    partitions: [
      { name: "p1", pieces: [], fileSystem: undefined, reason: "it is swap space" },
      {
        name: "p2",
        pieces: [],
        fileSystem: new ToyFileSystem({ 2: { mode: 0o700, names: { a: 3 } }, 3: { content: "two\n" } }),
        reason: undefined,
      },
      {
        name: "p3",
        pieces: [],
        fileSystem: new ToyFileSystem({ 2: { names: { a: 3 } }, 3: { content: "three\n" } }),
        reason: undefined,
      },
    ],
  };
  await using mounted = await mountToys({
    v: { moments: { 4: { time: "2026-11-22T10:15:00.000000Z", disk } } },
  });
  assert.equal(
    await mounted.sh(`
      cd v/points/*; stat -c '%n %a %U' . *; ls p1; cat p1/README p2/a p3/a; stat -c %i p2/a p3/a | uniq | wc -l
      ls -R .
    `),
    [
      ". 755 root\np1 755 root\np2 700 root\np3 755 root\nREADME",
      "Partition p1 has no file system that Varve reads: it is swap space",
      "The whole disk at this moment is v/images/seq:4.img.",
      "two\nthree\n2",
      ".:\np1\np2\np3\n\n./p1:\nREADME\n\n./p2:\na\n\n./p3:\na",
    ].join("\n"),
  );
});

Deno.test("a moment without a file system says why and still has its image", async () => {
  const disk: GuestDisk = {
    table: "none",
    partitions: [{ name: "", pieces: [], fileSystem: undefined, reason: "it is all zeroes" }],
  };
  const empty: GuestDisk = { table: "mbr", partitions: [] };
  await using mounted = await mountToys({
    v: {
      moments: {
        1: { time: "2026-11-22T10:15:00.000000Z", disk },
        2: { time: "2026-11-22T10:16:00.000000Z", disk: empty },
      },
    },
  });
  assert.equal(
    await mounted.sh(`head -qn 1 v/at/seq:1/README v/at/seq:2/README; stat -c %s v/images/seq:1.img`),
    [
      "The disk has no file system that Varve reads: it is all zeroes",
      "The disk has no file system that Varve reads: its partition table is empty",
      "1048576",
    ].join("\n"),
  );
});

Deno.test("a disk that can't be read for now is an error, and is asked for again", async () => {
  const { tree, history } = makeToyTree({
    v: { moments: { 1: moment("2026-11-22T10:15:00.000000Z", "text") } },
  });
  const only = history.volumes["v"]?.moments[1];
  assert.ok(only !== undefined);
  const { disk } = only;
  only.disk = new VarveError("io", "Open: the storage failed");
  await assert.rejects(find(tree, "v/at/now/file"), { code: "io" });
  only.disk = disk;
  assert.notEqual(await find(tree, "v/at/now/file"), undefined);
});

Deno.test("listing points opens no moment, and looking at them opens each once", async () => {
  const moments = Object.fromEntries(
    Array.from({ length: 40 }, (_, seq) => [seq, moment(`2026-11-22T10:15:${10 + seq}.000000Z`, `${seq}`)]),
  );
  await using mounted = await mountToys({ v: { moments } }, { openMoments: 2 });
  assert.equal(await mounted.sh("ls v/points | wc -l"), "40");
  assert.deepEqual(mounted.history.opened, []);
  assert.equal(await mounted.sh("ls -l v/points | wc -l; ls -l v/points | wc -l"), "41\n41");
  assert.equal(mounted.history.opened.length, 40);
  assert.equal(mounted.history.openViews, 2);
});

Deno.test("a volume that was made again under its name is another one", async () => {
  const { tree, history } = makeToyTree({
    v: { createdAt: "2026-01-01T00:00:00Z", moments: { 1: moment("2026-11-22T10:15:00.000000Z", "old") } },
  });
  const old = await find(tree, "v/at/now/file");
  history.volumes["v"] = {
    createdAt: "2026-02-02T00:00:00Z",
    moments: { 1: moment("2026-11-22T10:15:00.000000Z", "new content") },
  };
  const made = await find(tree, "v/at/now/file");
  assert.notEqual(made?.node.key, old?.node.key);
  assert.equal(made?.attributes.sizeBytes, 11);
});

Deno.test("README tells the window, the counts and how to name a time", async () => {
  await using mounted = await mountToys({
    v: {
      moments: { 3: moment("2026-11-22T10:15:00.000000Z", ""), 8: moment("2026-11-22T10:16:00.000000Z", "") },
    },
  });
  const text = await mounted.sh("cat v/README; stat -c '%a %U' v/README");
  for (const part of ["(seq:3)", "(seq:8)", "2 listed", "10m ago", "mark:NAME", "444 root"]) {
    assert.ok(text.includes(part), `${part} is missing in:\n${text}`);
  }
  assert.equal(
    await mounted.sh(`[ "$(cat v/README | wc -c)" = "$(stat -c %s v/README)" ] && echo same`),
    "same",
  );
});

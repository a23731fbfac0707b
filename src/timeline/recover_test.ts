import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import path from "node:path";
import { MemoryDevice } from "../base/memory_device.ts";
import { type DiskFile, type DiskOpenOptions, type DiskStat, FileDisk, MemoryDisk } from "../disk/mod.ts";
import { checkTarget, copyToTarget } from "./recover.ts";

const SIZE = (5 << 20) + 777;

/** A device with data at its start, in its middle and at its end, and zeroes that were written. */
function sample(): { device: MemoryDevice; content: Uint8Array } {
  const content = new Uint8Array(SIZE);
  content.fill(1, 0, 5000).fill(2, 3 << 20, (3 << 20) + 100).fill(3, SIZE - 10);
  const device = new MemoryDevice(SIZE);
  for (
    const [from, to] of [[0, 5000], [3 << 20, (3 << 20) + 100], [SIZE - 10, SIZE], [
      1 << 20,
      2 << 20,
    ]] as const
  ) {
    device.write(from, content.slice(from, to));
  }
  return { device, content };
}

async function inFolder(work: (directory: string) => Promise<void> | void): Promise<void> {
  const directory = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "varve-recover-" }));
  try {
    await work(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("copyToTarget() makes a sparse copy, proves it, and tells how far it has come", async () => {
  await inFolder(async (directory) => {
    const { device, content } = sample();
    const target = path.join(directory, "copy.img");
    await Deno.writeFile(target, new Uint8Array(9 << 20).fill(0xee));
    const progress: [number, number][] = [];
    const outcome = await copyToTarget(device, new FileDisk(), {
      target,
      verify: true,
      onProgress: (done, total) => progress.push([done, total]),
    });
    const copy = await Deno.readFile(target);
    assert.equal(copy.length, SIZE);
    assert.equal(copy.findIndex((byte, at) => byte !== content[at]), -1);
    assert.equal(outcome.sha256, createHash("sha256").update(content).digest("hex"));
    assert.equal(outcome.verified, true);
    assert.ok(outcome.writtenBytes < 1 << 20, `${outcome.writtenBytes} bytes written`);
    assert.ok((new FileDisk().stat(target)?.allocatedBytes ?? SIZE) < 1 << 20, "it is sparse");
    assert.ok(progress.every(([done], i) => done >= (progress[i - 1]?.[0] ?? 0)));
    assert.deepEqual(progress.at(-1), [2 * SIZE, 2 * SIZE]);
  });
});

Deno.test("copyToTarget() does not claim what it has not verified", async () => {
  const { device } = sample();
  const disk = new MemoryDisk();
  const progress: number[] = [];
  const outcome = await copyToTarget(device, disk, {
    target: "/d/x",
    verify: false,
    onProgress: (done, total) => progress.push(done, total),
  });
  assert.equal(outcome.verified, false);
  assert.equal(progress.at(-1), SIZE);
  await disk.syncDirectory("/d");
  disk.cutPower();
  const file = disk.open("/d/x");
  const byte = new Uint8Array(1);
  file.read(SIZE - 1, byte);
  assert.deepEqual(byte, Uint8Array.of(3), "the copy was synced");
});

/** A disk that changes a byte between writing and reading. */
class CorruptingDisk extends MemoryDisk {
  closed = 0;

  override open(place: string, options?: DiskOpenOptions): DiskFile {
    const file = super.open(place, options);
    const read = file.read.bind(file);
    file.read = (offset, target) => {
      const count = read(offset, target);
      if (offset > 0) target[0] = (target[0] ?? 0) ^ 1;
      return count;
    };
    file.close = () => void this.closed++;
    return file;
  }
}

Deno.test("copyToTarget() finds that a target reads back otherwise than it was written, and closes it", async () => {
  const disk = new CorruptingDisk();
  const copy = (verify: boolean) =>
    copyToTarget(sample().device, disk, { target: "/d/x", verify, onProgress: () => {} });
  await assert.rejects(copy(true), { name: "VarveError", code: "damaged" });
  assert.equal(disk.closed, 1);
  await copy(false);
  assert.equal(disk.closed, 2);
});

/** A disk that tells of one thing at every path. */
function diskWith(stat: DiskStat | undefined): MemoryDisk {
  const disk = new MemoryDisk();
  disk.stat = () => stat;
  return disk;
}

const FILE: DiskStat = { kind: "file", sizeBytes: SIZE, allocatedBytes: 0, identity: "inode:1:2" };

function check(
  target: string,
  stat: DiskStat | undefined,
  options: { force?: boolean; dataPath?: string } = {},
): void {
  checkTarget(target, diskWith(stat), {
    sizeBytes: SIZE,
    force: options.force ?? false,
    forbidden: new Map([["inode:6:6", "the primary of volume a"]]),
    dataPath: options.dataPath ?? "/varve-data",
  });
}

Deno.test("checkTarget() takes new and empty files and files that are large enough", async () => {
  await inFolder((directory) => {
    const place = path.join(directory, "x");
    check(place, undefined);
    Deno.writeFileSync(place, new Uint8Array(0));
    check(place, FILE);
    check(place, { ...FILE, sizeBytes: 0 });
    check(place, { ...FILE, sizeBytes: 5 }, { force: true });
  });
});

Deno.test("checkTarget() refuses with the field and a hint what must not be written", async () => {
  await inFolder((directory) => {
    const place = path.join(directory, "x");
    Deno.writeFileSync(place, new Uint8Array(0));
    const cases: [string, () => void, string][] = [
      ["a relative path", () => check("x.img", undefined), "invalid"],
      ["a folder that is missing", () => check(path.join(directory, "none/x"), undefined), "invalid"],
      ["a folder", () => check(directory, { ...FILE, kind: "other" }, { force: true }), "invalid"],
      ["a live primary", () => check(place, { ...FILE, identity: "inode:6:6" }, { force: true }), "conflict"],
      ["a file too small", () => check(place, { ...FILE, sizeBytes: SIZE - 1 }), "invalid"],
      ["an empty device", () => check(place, { ...FILE, kind: "block", sizeBytes: 0 }), "invalid"],
      [
        "a device too small, whatever is forced",
        () => check(place, { ...FILE, kind: "block", sizeBytes: SIZE - 1 }, { force: true }),
        "invalid",
      ],
    ];
    for (const [what, work, code] of cases) {
      assert.throws(work, { name: "VarveError", code, field: "target" }, what);
    }
  });
});

Deno.test("checkTarget() refuses Varve's own folder, by whatever path or link it is reached", async () => {
  await inFolder((directory) => {
    const dataPath = path.join(directory, "data");
    Deno.mkdirSync(path.join(dataPath, "volumes"), { recursive: true });
    Deno.writeTextFileSync(path.join(dataPath, "catalog.sqlite"), "");
    Deno.mkdirSync(path.join(directory, "data-2"));
    const link = (name: string, target: string) => {
      Deno.symlinkSync(target, path.join(directory, name));
      return path.join(directory, name);
    };
    const targets = [
      path.join(dataPath, "x"),
      path.join(dataPath, "catalog.sqlite"),
      path.join(dataPath, "volumes/x"),
      path.join(directory, "data-2/../data/x"),
      path.join(link("folder", dataPath), "x"),
      link("file", path.join(dataPath, "catalog.sqlite")),
      link("dangling", path.join(dataPath, "new.img")),
      link("relative", "data/new.img"),
      link("twice", "relative"),
    ];
    for (const target of targets) {
      assert.throws(() => check(target, FILE, { force: true, dataPath }), {
        code: "invalid",
        field: "target",
      }, target);
    }
    check(path.join(directory, "data-2/x"), undefined, { dataPath });
    check(link("elsewhere", path.join(directory, "new.img")), undefined, { dataPath });
    const loop = link("loop", path.join(directory, "loop2"));
    link("loop2", loop);
    check(loop, undefined, { dataPath });
  });
});

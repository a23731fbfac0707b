/**
 * What the tests of this folder share: images as moments, and trees as `PastFileSystem`s show them.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import { latin1 } from "../../src/guestfs/_bytes.ts";
import { type FileFacts, hex, run, segmentsOf } from "../../src/guestfs/_test_support.ts";
import { createHash } from "node:crypto";
import type { KernelPartition } from "../../src/browse/kernel_reading.ts";
import type { PastFileSystem } from "../../src/browse/past_file_system.ts";
import type { GuestStat } from "../../src/guestfs/guest.ts";
import { KernelReaders, type KernelReadersOptions } from "./kernel_readers.ts";

/** Kernel readers over images in files. */
export class ImageReaders extends KernelReaders implements AsyncDisposable {
  constructor(options: KernelReadersOptions = {}) {
    super({ diskUrl: new URL("./_image_process.ts", import.meta.url), ...options });
  }

  /** The file system in an image; throws when the kernel refuses it. */
  async fileSystem(image: string, type: string, seq = 1): Promise<PastFileSystem> {
    const read = await this.open(imagePartition(image, type, seq));
    if ("refused" in read) throw new Error(`${image}: ${read.refused}`);
    return read.fileSystem;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** All of an image; `seq` tells apart what shall be mounted apart. */
export function imagePartition(image: string, type: string, seq = 1): KernelPartition {
  const sizeBytes = Deno.statSync(image).size;
  return {
    place: { directory: image, sizeBytes },
    seq,
    name: "",
    pieces: [{ offset: 0, length: sizeBytes }],
    type,
  };
}

/** Whether this machine's kernel has a driver. */
export function knowsDriver(type: string): boolean {
  return new RegExp(`\\b${type}$`, "m").test(readFileSync("/proc/filesystems", "utf8"));
}

/** Loop devices whose file is the root of a mount of its own, as ours are. */
export async function servedLoops(): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir("/sys/block")) {
    const path = `/sys/block/${name}/loop/backing_file`;
    if (!existsSync(path)) continue;
    const file = await Deno.readTextFile(path).catch(() => "");
    if (file.trim() === "/") names.push(name);
  }
  return names.sort();
}

/** Everything below the root. */
export async function describePast(fileSystem: PastFileSystem): Promise<Map<string, FileFacts>> {
  const tree = new Map<string, FileFacts>();
  const visit = async (path: string, stat: GuestStat): Promise<void> => {
    tree.set(path, await describeFile(fileSystem, stat));
    if (stat.type !== "directory") return;
    const listing = await fileSystem.list(stat.inode);
    for (let index = 0; index < listing.length; index++) {
      const { name, stat, inode } = listing.at(index);
      if (stat === undefined) throw new Error(`${path}/${latin1(name)}: inode ${inode} cannot be read`);
      await visit(`${path}/${latin1(name)}`, stat);
    }
  };
  await visit("", await fileSystem.stat(fileSystem.root));
  return tree;
}

async function describeFile(fileSystem: PastFileSystem, stat: GuestStat): Promise<FileFacts> {
  const { inode, type } = stat;
  const segments = type === "file" ? await segmentsBy(fileSystem, inode) : [];
  const xattrs = (await fileSystem.xattrs(inode)).map(({ name, value }) => [latin1(name), hex(value)]);
  return {
    stat,
    target: type === "symlink" ? latin1(await fileSystem.readLink(inode)) : undefined,
    sha256: type === "file" ? await hashBy(fileSystem, stat) : undefined,
    segments,
    xattrs: Object.fromEntries(xattrs.sort()),
  };
}

async function segmentsBy(fileSystem: PastFileSystem, inode: number): Promise<number[]> {
  const found: (number | undefined)[] = [];
  // The walk is synchronous, so its answers are gathered before.
  for (let at = 0, kind: "data" | "hole" = "data";;) {
    const next = await fileSystem.seek(inode, at, kind);
    found.push(next);
    if (next === undefined) break;
    at = next;
    kind = kind === "data" ? "hole" : "data";
  }
  return segmentsOf(() => found.shift());
}

async function hashBy(fileSystem: PastFileSystem, { inode, sizeBytes }: GuestStat): Promise<string> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(3_000_000);
  for (let offset = 0; offset < sizeBytes;) {
    const count = await fileSystem.read(inode, offset, buffer);
    if (count === 0) throw new Error(`content of inode ${inode} ends at ${offset} of ${sizeBytes}`);
    hash.update(buffer.subarray(0, count));
    offset += count;
  }
  return hash.digest("hex");
}

/** An image that the kernel mounts for comparison, until disposed. */
export async function mountImage(
  image: string,
  type: string,
  options: string,
): Promise<{ path: string } & AsyncDisposable> {
  const path = `${image}.mnt`;
  await Deno.mkdir(path, { recursive: true });
  // By hand, because mount(8) makes a loop device for "ro" on which no journal can be replayed.
  const loop = (await run("losetup", "-f", "--show", image)).trim();
  try {
    await run("mount", "-t", type, "-o", options, loop, path);
  } finally {
    // It goes with the mount.
    await run("losetup", "-d", loop);
  }
  return { path, [Symbol.asyncDispose]: async () => void await run("umount", path) };
}

/** What changes with every write to a file. */
export function imageState(path: string): Promise<string> {
  return run("stat", "-c", "%y %z %b", path);
}

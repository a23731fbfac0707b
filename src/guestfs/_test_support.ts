/** What the tests of this folder share: devices over files and memory, and trees described line by line. */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { BlockDevice, Extent } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { latin1 } from "./_bytes.ts";
import { readRuns, seekContent } from "./content.ts";
import type { GuestFileSystem, GuestFileType, GuestStat } from "./guest.ts";

/** A read-only device; a subclass says where the bytes are. */
abstract class TestDevice implements BlockDevice {
  abstract readonly sizeBytes: number;
  readonly readOnly = true;
  abstract read(offset: number, target: Uint8Array): void;

  write(): void {
    throw new VarveError("read-only", "writing to a test device");
  }

  trim(): void {
    this.write();
  }

  zero(): void {
    this.write();
  }

  commit(): void {}

  flush(): Promise<void> {
    return Promise.resolve();
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  extents(offset: number, length: number): Extent[] {
    return [{ offset, length, kind: "data" }];
  }
}

/** A device whose bytes lie in memory; tests may change `bytes`. */
export class MemoryDevice extends TestDevice {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    super();
    this.bytes = bytes;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  read(offset: number, target: Uint8Array): void {
    checkRange(offset, target.length, this.bytes.length);
    target.set(this.bytes.subarray(offset, offset + target.length));
  }
}

/** A device over an image file. */
export class ImageDevice extends TestDevice implements Disposable {
  readonly sizeBytes: number;
  readonly #descriptor: number;

  constructor(path: string) {
    super();
    this.#descriptor = openSync(path, "r");
    this.sizeBytes = fstatSync(this.#descriptor).size;
  }

  read(offset: number, target: Uint8Array): void {
    checkRange(offset, target.length, this.sizeBytes);
    let done = 0;
    while (done < target.length) {
      done += readSync(this.#descriptor, target, done, target.length - done, offset + done);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}

function checkRange(offset: number, length: number, sizeBytes: number): void {
  if (!(offset >= 0 && offset + length <= sizeBytes)) {
    throw new VarveError("out-of-range", `reading ${length} bytes at ${offset} of ${sizeBytes}`);
  }
}

/** Runs a program to its end and returns what it printed; throws with its complaints when it fails. */
export async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args,
    stdout: "piped",
    stderr: "piped",
  })
    .output();
  const text = new TextDecoder().decode(stdout);
  if (!success) {
    throw new Error(`${program} ${args.join(" ")}: ${text}${new TextDecoder().decode(stderr)}`);
  }
  return text;
}

/** A temporary folder that is removed with everything in it. */
export class TemporaryFolder implements AsyncDisposable {
  readonly path: string = Deno.makeTempDirSync({ prefix: "varve-guestfs-" });

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** Everything that can be seen of one file, each fact under its name. */
export interface FileFacts {
  readonly stat: GuestStat;
  readonly target: string | undefined;
  readonly sha256: string | undefined;
  /** Offsets where data and holes begin, in turn. */
  readonly segments: readonly number[];
  readonly xattrs: Readonly<Record<string, string>>;
}

/**
 * Describes all files below the root: from the path (each byte one character) to the facts. Given the file system's `device`, it
 * also checks that what `map` says leads to the same content as `read`.
 */
export function describeTree(fileSystem: GuestFileSystem, device?: BlockDevice): Map<string, FileFacts> {
  const tree = new Map<string, FileFacts>();
  const visit = (path: string, inode: number, type: GuestFileType | undefined) => {
    const facts = describeFile(fileSystem, inode);
    if (device !== undefined && facts.stat.type === "file") checkMap(fileSystem, device, facts, path);
    if (type !== undefined && type !== facts.stat.type) throw new Error(`${path}: entry says ${type}`);
    tree.set(path, facts);
    if (facts.stat.type !== "directory") return;
    for (const entry of fileSystem.readDirectory(inode)) {
      const found = fileSystem.lookup(inode, entry.name);
      if (found !== entry.inode) throw new Error(`${path}/${latin1(entry.name)}: lookup says ${found}`);
      visit(`${path}/${latin1(entry.name)}`, entry.inode, entry.type);
    }
  };
  visit("", fileSystem.root, "directory");
  return tree;
}

function checkMap(
  fileSystem: GuestFileSystem,
  device: BlockDevice,
  { stat, sha256 }: FileFacts,
  path: string,
): void {
  const { inode, sizeBytes } = stat;
  const mapped = hashOf(sizeBytes, (offset, target) => {
    const runs = fileSystem.map(inode, offset, Math.min(target.length, sizeBytes - offset));
    const length = runs.reduce((sum, run) => sum + run.length, 0);
    if (length > target.length) throw new Error(`${path}: map answers ${length} of ${target.length} bytes`);
    readRuns(device, runs, target.subarray(0, length), (at, part) => {
      fileSystem.read(inode, offset + at, part);
    });
    return length;
  });
  if (mapped !== sha256) throw new Error(`${path}: map leads to other content than read`);
}

function describeFile(fileSystem: GuestFileSystem, inode: number): FileFacts {
  const stat = fileSystem.stat(inode);
  const file = stat.type === "file";
  const xattrs = fileSystem.xattrs(inode).map(({ name, value }) => [latin1(name), hex(value)]);
  return {
    stat,
    target: stat.type === "symlink" ? latin1(fileSystem.readLink(inode)) : undefined,
    sha256: file
      ? hashOf(stat.sizeBytes, (offset, target) => fileSystem.read(inode, offset, target))
      : undefined,
    segments: file ? segmentsOf((offset, kind) => seekContent(fileSystem, stat, { offset, kind })) : [],
    xattrs: Object.fromEntries(xattrs.sort()),
  };
}

const READ_BYTES = 1024 * 1024;

/** Hashes content that `read` gives from an offset. */
export function hashOf(sizeBytes: number, read: (offset: number, target: Uint8Array) => number): string {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(READ_BYTES);
  for (let offset = 0; offset < sizeBytes;) {
    const count = read(offset, buffer);
    if (count === 0) throw new Error(`content ends at ${offset} of ${sizeBytes}`);
    hash.update(buffer.subarray(0, count));
    offset += count;
  }
  return hash.digest("hex");
}

/** Walks over data and holes in turn, from the first data on. */
export function segmentsOf(
  seek: (offset: number, kind: "data" | "hole") => number | undefined,
): number[] {
  const segments: number[] = [];
  for (let at = seek(0, "data"); at !== undefined && segments.length < 10_000;) {
    segments.push(at);
    at = seek(at, segments.length % 2 === 1 ? "hole" : "data");
  }
  return segments;
}

/** Bytes in hexadecimal. */
export function hex(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** Where two trees differ, one line each, at most `max` lines. */
export function differences(
  ours: ReadonlyMap<string, FileFacts>,
  kernel: ReadonlyMap<string, FileFacts>,
  max = 20,
): string[] {
  const lines: string[] = [];
  const text = (value: unknown) =>
    JSON.stringify(value, (_, inner) => typeof inner === "bigint" ? `${inner}n` : inner);
  for (const path of new Set([...ours.keys(), ...kernel.keys()])) {
    const left = ours.get(path);
    const right = kernel.get(path);
    if (left === undefined || right === undefined) {
      lines.push(`${path}: only ${left === undefined ? "the kernel" : "we"} have it`);
      continue;
    }
    for (const key of ["target", "sha256", "segments", "xattrs"] as const) {
      if (text(left[key]) !== text(right[key])) {
        lines.push(`${path}: ${key}: ${text(left[key])} against ${text(right[key])}`);
      }
    }
    for (const key of new Set([...Object.keys(left.stat), ...Object.keys(right.stat)])) {
      const [one, other] = [Reflect.get(left.stat, key), Reflect.get(right.stat, key)];
      if (one !== other) lines.push(`${path}: ${key}: ${one} against ${other}`);
    }
  }
  return lines.slice(0, max);
}

/**
 * Copies a device to a file or a block device, sparse where it is, and proves the copy.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import type { BlockDevice } from "../base/block_device.ts";
import { isZero } from "../base/bytes.ts";
import { VarveError } from "../base/errors.ts";
import { isUnclaimed } from "../disk/libc.ts";
import type { Disk, DiskFile } from "../disk/mod.ts";

const CHUNK_BYTES = 1 << 20;
/** Dangling symbolic links followed at most. */
const LINKS_MAX = 40;
const ZERO_CHUNK = new Uint8Array(CHUNK_BYTES);

/** Options of {@linkcode copyToTarget}. */
export interface CopyOptions {
  /** Path of a file or a block device. */
  readonly target: string;
  /** Read the target back and compare hashes. */
  readonly verify: boolean;
  /** Told how far it has come; reading back counts as much as writing. */
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

/** What {@linkcode copyToTarget} did. */
export interface CopyOutcome {
  /** Bytes written, without holes. */
  writtenBytes: number;
  /** SHA-256 of the device's whole content, in hexadecimal; made only to verify, because holes take as long as data. */
  sha256?: string;
  /** Whether the target was read back and has the same hash. */
  verified: boolean;
}

/** What stands in the way of writing to a target. */
export interface TargetRules {
  /** Bytes that have to fit. */
  readonly sizeBytes: number;
  /** Write although the target is too small a file or in use. */
  readonly force: boolean;
  /** Identities of files and devices that must never be written, with what they are. */
  readonly forbidden: ReadonlyMap<string, string>;
  /** Folder that must not be written into: Varve's own. */
  readonly dataPath: string;
}

/**
 * Throws `invalid` when a path leads into the mounted tree. It looks asynchronously: this process serves the tree, and a
 * synchronous look would wait for itself for ever. To be called before any other look at a path that a user gave.
 */
export async function refuseMountedTree(
  tried: string,
  { place, field, mountPath }: { place: string; field: string; mountPath: string | undefined },
): Promise<void> {
  if (mountPath === undefined) return;
  let real = path.resolve(place);
  for (let up = real;; up = path.dirname(up)) {
    if (up === mountPath) break;
    const found = await fs.promises.realpath(up).catch(() => undefined);
    if (found !== undefined) {
      real = path.join(found, path.relative(up, real));
      break;
    }
  }
  if (!`${real}/`.startsWith(`${mountPath}/`)) return;
  throw new VarveError("invalid", `${tried}: it lies in the mounted tree, which is read-only`, {
    field,
    hint: "Choose a place outside of it.",
  });
}

/** Throws `invalid` or `conflict` unless a recovery may write to `target`. Changes nothing. */
export function checkTarget(target: string, disk: Disk, rules: TargetRules): void {
  const tried = `recover to ${target}`;
  const fail = (code: "invalid" | "conflict", found: string, hint: string) =>
    new VarveError(code, `${tried}: ${found}`, { field: "target", hint });
  if (!target.startsWith("/")) {
    throw fail(
      "invalid",
      "the path is not absolute",
      "Give the path from the root, for example /srv/disk.img.",
    );
  }
  const parent = path.dirname(target);
  if (`${realPlace(target)}/`.startsWith(`${rules.dataPath}/`)) {
    throw fail("invalid", "it lies in Varve's own data folder", "Choose a place outside of it.");
  }
  const stat = disk.stat(target);
  if (stat === undefined) {
    if (fs.statSync(parent, { throwIfNoEntry: false })?.isDirectory()) return;
    throw fail("invalid", `there is no folder ${parent}`, "Make the folder first.");
  }
  if (stat.kind === "other") {
    throw fail("invalid", "it is neither a file nor a block device", "Name a file or a block device.");
  }
  const forbidden = rules.forbidden.get(stat.identity);
  if (forbidden !== undefined) {
    throw fail("conflict", `it is ${forbidden}`, "Recover to another disk, then change over.");
  }
  const isEmptyFile = stat.kind === "file" && stat.sizeBytes === 0;
  if (stat.sizeBytes < rules.sizeBytes && !isEmptyFile && !(rules.force && stat.kind === "file")) {
    throw fail(
      "invalid",
      `it has ${stat.sizeBytes} bytes, the volume needs ${rules.sizeBytes}`,
      stat.kind === "file" ? "Name a new file, or use --force to let it grow." : "Use a larger device.",
    );
  }
  if (rules.force) return;
  const user = stat.kind === "block" ? userOfDevice(target) : userOfFile(target);
  if (user !== undefined) {
    throw fail("conflict", `it is in use: ${user}`, "Unmount or detach it first, or use --force.");
  }
}

/** Where a path leads, also when the file itself, or the one that a link names, is not there yet. */
export function realPlace(target: string, links = 0): string {
  if (fs.existsSync(target)) return fs.realpathSync(target);
  const parent = path.dirname(target);
  const place = path.join(fs.existsSync(parent) ? fs.realpathSync(parent) : parent, path.basename(target));
  if (links > LINKS_MAX || !fs.lstatSync(place, { throwIfNoEntry: false })?.isSymbolicLink()) return place;
  return realPlace(path.resolve(path.dirname(place), fs.readlinkSync(place)), links + 1);
}

function userOfDevice(target: string): string | undefined {
  return isUnclaimed(target) ? undefined : "it is mounted, or another device is built on it";
}

function userOfFile(target: string): string | undefined {
  const real = fs.realpathSync(target);
  if (!fs.existsSync("/sys/block")) return undefined;
  for (const device of fs.readdirSync("/sys/block")) {
    const backing = `/sys/block/${device}/loop/backing_file`;
    if (fs.existsSync(backing) && fs.readFileSync(backing, "utf8").trim() === real) {
      return `/dev/${device} is set up on it`;
    }
  }
  return undefined;
}

/**
 * Copies all of `device` and syncs the target; with `verify` reads it back. Holes stay holes, and blocks of zeroes
 * become holes. Throws `damaged` when the target reads back otherwise than it was written.
 */
export async function copyToTarget(
  device: BlockDevice,
  disk: Disk,
  options: CopyOptions,
): Promise<CopyOutcome> {
  const total = device.sizeBytes * (options.verify ? 2 : 1);
  const file = disk.open(options.target, { mode: "create" });
  try {
    if (disk.stat(options.target)?.kind === "file") {
      file.truncate(0);
      file.truncate(device.sizeBytes);
    }
    const hash = options.verify ? createHash("sha256") : undefined;
    const writtenBytes = copyAll(device, file, hash, (done) => options.onProgress(done, total));
    await file.sync();
    if (hash === undefined) return { writtenBytes, verified: false };
    const sha256 = hash.digest("hex");
    const found = hashAll(
      file,
      device.sizeBytes,
      (done) => options.onProgress(device.sizeBytes + done, total),
    );
    if (found !== sha256) {
      throw new VarveError(
        "damaged",
        `verify ${options.target}: its SHA-256 is ${found}, that of the moment is ${sha256}`,
        { hint: "The target's storage does not keep what is written to it. Recover to another disk." },
      );
    }
    return { writtenBytes, sha256, verified: true };
  } finally {
    file.close();
  }
}

/** Copies everything and feeds it to the hash, if there is one; returns the bytes written. */
function copyAll(
  device: BlockDevice,
  file: DiskFile,
  hash: Hash | undefined,
  onProgress: (doneBytes: number) => void,
): number {
  const buffer = new Uint8Array(CHUNK_BYTES);
  let writtenBytes = 0;
  for (const extent of device.extents(0, device.sizeBytes)) {
    const end = extent.offset + extent.length;
    if (extent.kind === "hole") {
      file.discard(extent.offset, extent.length);
      for (let at = extent.offset; hash !== undefined && at < end; at += CHUNK_BYTES) {
        hash.update(ZERO_CHUNK.subarray(0, Math.min(CHUNK_BYTES, end - at)));
        onProgress(Math.min(at + CHUNK_BYTES, end));
      }
      onProgress(end);
      continue;
    }
    for (let at = extent.offset; at < end; at += CHUNK_BYTES) {
      const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, end - at));
      device.read(at, chunk);
      hash?.update(chunk);
      if (isZero(chunk)) file.discard(at, chunk.length);
      else {
        file.write(at, chunk);
        writtenBytes += chunk.length;
      }
      onProgress(at + chunk.length);
    }
  }
  return writtenBytes;
}

function hashAll(file: DiskFile, sizeBytes: number, onProgress: (doneBytes: number) => void): string {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
    const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, sizeBytes - at));
    const got = file.read(at, chunk);
    hash.update(chunk.subarray(0, got));
    onProgress(at + got);
  }
  return hash.digest("hex");
}

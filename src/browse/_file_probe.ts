/**
 * What can be told of one path at one moment, in a form that two moments can be compared by.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { BLOCK_BYTES, type BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { DiskPiece, GuestDisk, GuestFileSystem, GuestPartition, GuestStat } from "../guestfs/guest.ts";
import { type ByteRange, joined, type NotingDevice } from "./_ranges.ts";

/** A directory or symbolic link on the way to a file. */
export interface ProbedStep {
  /** Inode of the directory that was looked in. */
  readonly directory: number;
  /** When that directory was last changed. */
  readonly directoryChangedNs: bigint;
  /** What the name led to, and when that was last changed; `undefined` where there was no such name. */
  readonly found: { readonly inode: number; readonly changedNs: bigint } | undefined;
}

/** A file as a probe found it: all of its {@linkcode GuestStat} but the time of the last access and the space taken. */
export interface ProbedFile extends Omit<GuestStat, "accessedNs" | "blocks512"> {
  /** Target of a symbolic link, in the guest's bytes. */
  readonly target?: Uint8Array;
}

/** What one moment says of one path. Everything in it can be sent between threads. */
export interface FileProbe {
  /** Whether the file exists; `unreadable` when that, or where its content lies, cannot be told. */
  readonly state: "present" | "absent" | "unreadable";
  /** Why it is unreadable. */
  readonly reason?: string;
  /** The file, when it is present. */
  readonly file?: ProbedFile;
  /** Where the content lies, hashed, and those bytes of it that lie in blocks shared with something else. */
  readonly place: string;
  /** Blocks of the volume that hold nothing but content of the file. */
  readonly stored: readonly ByteRange[];
  /** Whether `place` and `stored` tell all of the content; a file in very many pieces is told only in part. */
  readonly complete: boolean;
  /** The way from the root to the file, or to the first name that was missing. */
  readonly way: readonly ProbedStep[];
  /** Blocks of the volume that the answer was read from. */
  readonly read: readonly ByteRange[];
  /** As {@linkcode GuestFileSystem.keepsChangeTimes}. */
  readonly keepsChangeTimes: boolean;
}

/** Symbolic links followed at most on the way to a file. */
const LINKS_MAX = 40;
/** Runs of content that a probe goes over. */
const RUNS_MAX = 65_536;
/** Content that a probe reads because nothing else tells it: bytes that are made by the reader, and edges of blocks. */
const HASHED_MAX = 8 * 1024 * 1024;
/** As `HASHED_MAX`, where the time of the last change tells of them too. */
const HASHED_WITH_TIMES_MAX = 256 * 1024;
/** Bytes of a file mapped by one call. */
const WINDOW_BYTES = 1024 ** 3;

/** Looks at a path of the disk that `open` opens on the device; `device` notes what is read. Never throws a `VarveError`. */
export function probeFile(
  device: NotingDevice,
  open: (device: BlockDevice) => GuestDisk,
  path: string,
): FileProbe {
  let way: ProbedStep[] = [];
  let keepsChangeTimes = false;
  const told = (part: Pick<FileProbe, "state"> & Partial<FileProbe>): FileProbe => ({
    place: "",
    stored: [],
    complete: true,
    way,
    keepsChangeTimes,
    ...part,
    read: device.noted.ranges(),
  });
  try {
    const parts = partsOf(path);
    const partition = partitionOf(open(device), parts);
    if (partition === undefined) return told({ state: "absent" });
    const { fileSystem } = partition;
    if (fileSystem === undefined) return told({ state: "unreadable", reason: partition.reason ?? "" });
    keepsChangeTimes = fileSystem.keepsChangeTimes;
    const walked = walk(fileSystem, parts);
    way = walked.way;
    if (walked.inode === undefined) return told({ state: "absent" });
    const stat = fileSystem.stat(walked.inode);
    const file = probedFile(fileSystem, stat);
    if (stat.type === "directory" && !keepsChangeTimes) {
      return told({ state: "present", file, place: listingOf(fileSystem, stat.inode) });
    }
    if (stat.type !== "file") return told({ state: "present", file });
    return told({ state: "present", file, ...placeOf(device, { ...partition, fileSystem }, stat) });
  } catch (thrown) {
    if (!(thrown instanceof VarveError)) throw thrown;
    return told({ state: "unreadable", reason: thrown.message });
  }
}

/** The names of a path. */
export function partsOf(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) {
    throw new VarveError("invalid", `find ${path}: a path with .. names no file of its own`, {
      field: "path",
    });
  }
  return parts;
}

/** The partition that a path leads into, whose name it takes off `parts`: the longest that fits. */
export function partitionOf(disk: GuestDisk, parts: string[]): GuestPartition | undefined {
  const fitting = disk.partitions.filter(({ name }) =>
    name === "" || name.split("/").every((part, index) => part === parts[index])
  );
  const found = fitting.toSorted((a, b) => b.name.length - a.name.length)[0];
  if (found !== undefined && found.name !== "") parts.splice(0, found.name.split("/").length);
  return found;
}

function walk(
  fileSystem: GuestFileSystem,
  wanted: readonly string[],
): { way: ProbedStep[]; inode: number | undefined } {
  const way: ProbedStep[] = [];
  const parts = [...wanted];
  const trail = [fileSystem.root];
  for (let part = parts.shift(), links = 0; part !== undefined; part = parts.shift()) {
    const directory = trail.at(-1) ?? fileSystem.root;
    const { type, changedNs: directoryChangedNs } = fileSystem.stat(directory);
    if (type !== "directory") return { way, inode: undefined };
    if (part === "..") {
      if (trail.length > 1) trail.pop();
      continue;
    }
    const inode = fileSystem.lookup(directory, new TextEncoder().encode(part));
    if (inode === undefined) {
      way.push({ directory, directoryChangedNs, found: undefined });
      return { way, inode };
    }
    const found = fileSystem.stat(inode);
    way.push({ directory, directoryChangedNs, found: { inode, changedNs: found.changedNs } });
    if (found.type !== "symlink" || parts.length === 0) {
      trail.push(inode);
      continue;
    }
    if (++links > LINKS_MAX) {
      throw new VarveError("invalid", `find ${wanted.join("/")}: too many symbolic links`);
    }
    const target = new TextDecoder().decode(fileSystem.readLink(inode));
    if (target.startsWith("/")) trail.length = 1;
    parts.unshift(...target.split("/").filter((each) => each !== "" && each !== "."));
  }
  return { way, inode: trail.at(-1) };
}

/** What a directory holds, hashed: where the guest keeps no times of change, nothing else tells. */
function listingOf(fileSystem: GuestFileSystem, directory: number): string {
  const hash = createHash("sha256");
  for (const { name, inode } of fileSystem.readDirectory(directory)) {
    hash.update(`${inode} ${name.length} `).update(name);
  }
  return digest(hash);
}

function probedFile(fileSystem: GuestFileSystem, stat: GuestStat): ProbedFile {
  const { accessedNs: _accessed, blocks512: _blocks, ...file } = stat;
  return stat.type === "symlink" ? { ...file, target: fileSystem.readLink(stat.inode) } : file;
}

/** Where the content of a file lies, as in a probe. */
export type Place = Pick<FileProbe, "place" | "stored" | "complete">;

/** Where the content of a file lies. */
export function placeOf(
  device: BlockDevice,
  { fileSystem, pieces }: { readonly fileSystem: GuestFileSystem; readonly pieces: readonly DiskPiece[] },
  { inode, sizeBytes }: Pick<GuestStat, "inode" | "sizeBytes">,
): Place {
  const hash = createHash("sha256");
  const stored: ByteRange[] = [];
  let toHash = fileSystem.keepsChangeTimes ? HASHED_WITH_TIMES_MAX : HASHED_MAX;
  let complete = true;
  const hashed = (length: number, read: (target: Uint8Array) => void) => {
    // What is beyond the limit is told by its place alone.
    if (length > toHash) {
      complete &&= fileSystem.keepsChangeTimes;
      return;
    }
    toHash -= length;
    const bytes = new Uint8Array(length);
    read(bytes);
    hash.update(bytes);
  };
  let runs = 0;
  for (let at = 0; at < sizeBytes;) {
    const mapped = fileSystem.map(inode, at, Math.min(WINDOW_BYTES, sizeBytes - at));
    if (mapped.length === 0) {
      throw new VarveError("damaged", `mapping a file: no run at ${at} of ${sizeBytes} bytes`);
    }
    for (const run of mapped) {
      hash.update(`${run.kind} ${run.length} ${run.kind === "stored" ? run.deviceOffset : ""};`);
      if (run.kind === "made") hashed(run.length, (target) => fileSystem.read(inode, at, target));
      else if (run.kind === "stored") {
        for (const range of onDisk(pieces, run.deviceOffset, run.length)) {
          noteStored(device, range, stored, hashed);
        }
      }
      at += run.length;
      if (++runs === RUNS_MAX) return { place: digest(hash), stored: joined(stored), complete: false };
    }
  }
  return { place: digest(hash), stored: joined(stored), complete };
}

function digest(hash: Hash): string {
  return hash.digest("base64");
}

/** Whole blocks are told by who wrote them last; the edges of a range lie in blocks with something else. */
function noteStored(
  device: BlockDevice,
  { offset, length }: ByteRange,
  stored: ByteRange[],
  hashed: (length: number, read: (target: Uint8Array) => void) => void,
): void {
  const end = offset + length;
  const first = Math.min(end, Math.ceil(offset / BLOCK_BYTES) * BLOCK_BYTES);
  const last = Math.max(first, Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES);
  if (first > offset) hashed(first - offset, (target) => device.read(offset, target));
  if (last > first) stored.push({ offset: first, length: last - first });
  if (end > last) hashed(end - last, (target) => device.read(last, target));
}

/** Where bytes of a partition lie on the disk. */
export function* onDisk(pieces: readonly DiskPiece[], offset: number, length: number): Generator<ByteRange> {
  let start = 0;
  for (const piece of pieces) {
    const from = Math.max(offset, start);
    const to = Math.min(offset + length, start + piece.length);
    if (from < to) yield { offset: piece.offset + from - start, length: to - from };
    start += piece.length;
  }
}

/**
 * Doubles for tests of this room: a guest file system of plain objects, and a source of history over them.
 *
 * @module
 */
import { MemoryDevice } from "../src/base/memory_device.ts";
import { VarveError } from "../src/base/errors.ts";
import { directDisk } from "../src/browse/direct_disk.ts";
import type { DeletedFiles, FileInfo, FileVersionList, PointInfo, VolumeInfo } from "../src/engine.ts";
import type {
  ContentRun,
  GuestDisk,
  GuestEntry,
  GuestFileSystem,
  GuestFileType,
  GuestStat,
  GuestXattr,
} from "../src/guestfs/guest.ts";
import type { OpenView, TreeSource } from "./tree_source.ts";

const encoder = new TextEncoder();

/** An inode of a {@linkcode ToyFileSystem}. */
export interface ToyInode {
  /** Default `file`. */
  type?: GuestFileType;
  /** Default 0o644, for folders 0o755. */
  mode?: number;
  /** Default 0. */
  uid?: number;
  /** Default 0. */
  gid?: number;
  /** Default 1, for folders 2. */
  links?: number;
  /** Bytes of a file, or the target of a link. */
  content?: string | Uint8Array;
  /** Size of a file whose bytes are `patternByte` of their offset, instead of `content`. */
  patternBytes?: number;
  /** Names in a folder. */
  names?: Record<string, number>;
  /** Attributes by full name. */
  xattrs?: Record<string, string | Uint8Array>;
  /** Device number. */
  rdev?: number;
  /** Default 2026-01-02T03:04:05.678901234Z. */
  modifiedNs?: bigint;
  /** Reading its attributes throws this. */
  broken?: VarveError;
}

/** The byte at an offset of a file made by pattern. */
export function patternByte(offset: number): number {
  return (offset ^ (offset >>> 8) ^ (offset >>> 16)) & 0xff;
}

/** A file system held in a table of inodes; inode 2 is its root. */
export class ToyFileSystem implements GuestFileSystem {
  readonly kind = "toy";
  readonly label = "";
  readonly root = 2;
  readonly keepsChangeTimes = true;
  readonly space = { blockBytes: 1024, blocks: 1000, freeBlocks: 400, inodes: 128, freeInodes: 100 };
  readonly #inodes: Record<number, ToyInode>;

  constructor(inodes: Record<number, ToyInode>) {
    this.#inodes = inodes;
  }

  #inode(number: number): ToyInode {
    const inode = this.#inodes[number];
    if (inode === undefined) throw new VarveError("not-found", `Read inode ${number}: it is free`);
    if (inode.broken !== undefined) throw inode.broken;
    return inode;
  }

  stat(number: number): GuestStat {
    const inode = this.#inode(number);
    const type = inode.names !== undefined ? "directory" : inode.type ?? "file";
    const modifiedNs = inode.modifiedNs ?? 1767323045_678901234n;
    const sizeBytes = inode.patternBytes ?? bytesOf(inode.content ?? "").length;
    return {
      inode: number,
      type,
      mode: inode.mode ?? (type === "directory" ? 0o755 : 0o644),
      uid: inode.uid ?? 0,
      gid: inode.gid ?? 0,
      links: inode.links ?? (type === "directory" ? 2 : 1),
      sizeBytes,
      blocks512: Math.ceil(sizeBytes / 512),
      rdev: inode.rdev ?? 0,
      accessedNs: modifiedNs + 1n,
      modifiedNs,
      changedNs: modifiedNs + 2n,
    };
  }

  lookup(directory: number, name: Uint8Array): number | undefined {
    return this.#inode(directory).names?.[latin1(name)];
  }

  readDirectory(directory: number): GuestEntry[] {
    return Object.entries(this.#inode(directory).names ?? {}).map(([name, inode]) => ({
      name: Uint8Array.from(name, (character) => character.charCodeAt(0)),
      inode,
      type: undefined,
    }));
  }

  read(number: number, offset: number, target: Uint8Array): number {
    const { content, patternBytes } = this.#inode(number);
    if (patternBytes !== undefined) {
      const length = Math.max(0, Math.min(target.length, patternBytes - offset));
      for (let index = 0; index < length; index++) target[index] = patternByte(offset + index);
      return length;
    }
    const piece = bytesOf(content ?? "").subarray(offset, offset + target.length);
    target.set(piece);
    return piece.length;
  }

  readLink(number: number): Uint8Array {
    return bytesOf(this.#inode(number).content ?? "");
  }

  xattrs(number: number): GuestXattr[] {
    return Object.entries(this.#inode(number).xattrs ?? {}).map(([name, value]) => ({
      name: bytesOf(name),
      value: bytesOf(value),
    }));
  }

  map(number: number, offset: number, length: number): ContentRun[] {
    const rest = Math.min(length, this.stat(number).sizeBytes - offset);
    return rest > 0 ? [{ kind: "made", length: rest }] : [];
  }
}

function toyFile(path: string): FileInfo {
  return {
    name: path.slice(path.lastIndexOf("/") + 1),
    path,
    type: "file",
    sizeBytes: 0,
    mode: "0644",
    uid: 0,
    gid: 0,
    links: 1,
    inode: 1,
    modifiedAt: "",
  };
}

function bytesOf(content: string | Uint8Array): Uint8Array {
  return typeof content === "string" ? encoder.encode(content) : content;
}

/** Names are bytes: in the tables here each stands for the character of that number. */
function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** A disk that is one file system. */
export function wholeDisk(inodes: Record<number, ToyInode>): GuestDisk {
  const fileSystem = new ToyFileSystem(inodes);
  return { table: "none", partitions: [{ name: "", pieces: [], fileSystem, reason: undefined }] };
}

/** A moment of a {@linkcode ToyHistory}. */
export interface ToyMoment {
  /** RFC 3339 with six digits. */
  time: string;
  /** What the disk holds, or what finding that out throws. */
  disk: GuestDisk | VarveError;
  /** The raw disk. Default: 1 MiB of zeroes. */
  device?: MemoryDevice;
  /** Makes it a mark. */
  mark?: string;
  /** Default `true`. */
  listed?: boolean;
}

/** Volumes with their moments by sequence. */
export type ToyVolumes = Record<string, { createdAt?: string; moments: Record<number, ToyMoment> }>;

/** A source of history in memory that counts what it is asked. */
export class ToyHistory implements TreeSource {
  /** May be changed at any time. */
  readonly volumes: ToyVolumes;
  /** Views that are open now. */
  openViews = 0;
  /** Views opened so far, as `volume@seq`. */
  readonly opened: string[] = [];

  constructor(volumes: ToyVolumes) {
    this.volumes = volumes;
  }

  listVolumes(): Promise<{ name: string; sizeBytes: number; createdAt: string }[]> {
    return Promise.resolve(
      Object.entries(this.volumes).map(([name, { createdAt = "2026-01-01T00:00:00Z" }]) => ({
        name,
        sizeBytes: 1024 ** 2,
        createdAt,
      })),
    );
  }

  #moments(volume: string): [seq: number, moment: ToyMoment][] {
    const found = this.volumes[volume];
    if (found === undefined) throw new VarveError("not-found", `Find volume ${volume}: there is none`);
    return Object.entries(found.moments).map(([seq, moment]) => [Number(seq), moment]);
  }

  // deno-lint-ignore require-await -- what it throws must reject
  async listPoints(volume: string): Promise<PointInfo[]> {
    return this.#moments(volume).filter(([, { listed = true }]) => listed).map(([seq, { time, mark }]) =>
      mark === undefined
        ? { time, seq, kind: "tier", pinned: false }
        : { time, seq, kind: "mark", name: mark, pinned: false }
    );
  }

  async listMarksOf(volume: string, millisecond: string): Promise<PointInfo[]> {
    const within = (time: string) => Math.abs(Date.parse(time) - Date.parse(millisecond)) < 1;
    return (await this.listPoints(volume)).filter(({ time }) => within(time));
  }

  // deno-lint-ignore require-await -- what it throws must reject
  async resolve(volume: string, expression: string): Promise<{ time: string; seq: number }> {
    const moments = this.#moments(volume);
    const found = expression === "now"
      ? moments.at(-1)
      : expression.startsWith("mark:")
      ? moments.find(([, { mark }]) => mark === expression.slice(5))
      : expression.startsWith("seq:")
      ? moments.find(([seq]) => `${seq}` === expression.slice(4))
      : moments.findLast(([, { time }]) => Date.parse(time) <= Date.parse(expression));
    if (expression === "io") throw new VarveError("io", "Resolve: the storage failed");
    if (found === undefined) {
      throw new VarveError("invalid", `Resolve ${expression}: there is no such moment`);
    }
    return { seq: found[0], time: found[1].time };
  }

  // deno-lint-ignore require-await -- what it throws must reject
  async describe(volume: string): Promise<VolumeInfo> {
    const moments = this.#moments(volume).map(([seq, { time }]) => ({ seq, time }));
    const [from, to] = [moments[0], moments.at(-1)];
    if (from === undefined || to === undefined) throw new VarveError("not-found", "Describe: no moments");
    return {
      id: "0".repeat(32),
      name: volume,
      sizeBytes: 1024 ** 2,
      state: "ready",
      primary: { path: "/primary", managed: true },
      createdAt: "2026-01-01T00:00:00Z",
      window: { from, to },
      gaps: [],
      baseline: { complete: true, doneBytes: 0, totalBytes: 0 },
      historyBytes: 0,
      compression: { compressedSegments: 0, rawBytes: 0, storedBytes: 0 },
      counts: { marks: 1, segments: 1, connections: 0 },
      indexedSeq: to.seq,
      durableSeq: to.seq,
      capture: "running",
      refusedWrites: 0,
    };
  }

  /** Versions by path: the moments at which each begins. */
  readonly versionsOf: Record<string, number[]> = {};
  /** Names that a folder held last at a moment, by its path. */
  readonly deletedFrom: Record<string, Record<string, number>> = {};
  /** How often versions and deleted files were asked for. */
  asked = 0;

  // deno-lint-ignore require-await -- what it throws must reject
  async versions(volume: string, path: string): Promise<FileVersionList> {
    this.asked++;
    const versions = (this.versionsOf[path] ?? []).toReversed().map((seq) => {
      const moment = this.#momentOf(volume, seq);
      return { from: moment, until: moment, file: toyFile(path) };
    });
    return { path, versions, unreadable: [], unproven: [], truncated: false };
  }

  // deno-lint-ignore require-await -- what it throws must reject
  async deleted(volume: string, seq: number, path: string): Promise<DeletedFiles> {
    this.asked++;
    const files = Object.entries(this.deletedFrom[path] ?? {}).map(([name, last]) => {
      const moment = this.#momentOf(volume, last);
      return { lastSeen: moment, file: toyFile(`${path}/${name}`) };
    });
    return { ...this.#momentOf(volume, seq), path, files, truncated: false };
  }

  #momentOf(volume: string, seq: number): { time: string; seq: number } {
    const found = this.#moments(volume).find(([each]) => each === seq);
    return { seq, time: found?.[1].time ?? "" };
  }

  // deno-lint-ignore require-await -- what it throws must reject
  async open(volume: string, seq: number): Promise<OpenView> {
    const moment = this.volumes[volume]?.moments[seq];
    if (moment === undefined) throw new VarveError("not-retained", `Open sequence ${seq}: it was thinned`);
    this.openViews++;
    this.opened.push(`${volume}@${seq}`);
    const device = moment.device ?? new MemoryDevice(1024 ** 2, { readOnly: true });
    return {
      device,
      disk: () => {
        if (moment.disk instanceof VarveError) throw moment.disk;
        return directDisk(moment.disk);
      },
      close: () => void this.openViews--,
    };
  }
}

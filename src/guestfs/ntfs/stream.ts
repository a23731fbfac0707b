/**
 * Content of one attribute: bytes in the record, runs of clusters, holes, or compressed units.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged } from "../_bytes.ts";
import type { ContentRun } from "../guest.ts";
import { ByteLru } from "../_lru.ts";
import type { Attribute, NonResident } from "./attribute.ts";
import type { Geometry } from "./boot_sector.ts";
import { ATTRIBUTE_FLAG } from "./format.ts";
import { decompressLznt1 } from "./lznt1.ts";
import type { ByteSource } from "./metadata_source.ts";
import { decodeRunList, findRun, type Run } from "./run_list.ts";

/** Bytes that may be compressed together: NTFS takes 16 clusters, and only where they have at most 4 KiB. */
const UNIT_BYTES_MAX = 64 * 1024;
/** What one decoded run weighs in the cache. */
const RUN_WEIGHT_BYTES = 48;
const RUN_CACHE_BYTES = 8 * 1024 * 1024;
const UNIT_CACHE_BYTES = 1024 * 1024;

/** One piece of a stream; a stream of one piece has all of it in one attribute. */
export interface StreamPiece {
  /** First cluster of the piece. */
  readonly firstVcn: number;
  /** The same for the same piece, and for no other of the volume. */
  readonly key: number;
  /** Finds the attribute. Throws `damaged` when it isn't where it should be. */
  load(): Attribute;
}

/** What all streams of a volume share. */
export class StreamContext {
  /** Sizes and places of the volume. */
  readonly geometry: Geometry;
  /** Decoded run lists by the keys of their pieces; `firstVcn` tells hostile pieces of the same key apart. */
  readonly runs: ByteLru<{ readonly firstVcn: number; readonly runs: readonly Run[] }> = new ByteLru(
    RUN_CACHE_BYTES,
  );
  /** Decompressed units by their first clusters on the volume. */
  readonly units: ByteLru<Unit> = new ByteLru(UNIT_CACHE_BYTES);

  /** Starts with empty caches. */
  constructor(geometry: Geometry) {
    this.geometry = geometry;
  }
}

/** Consecutive clusters of the volume. */
interface Clusters {
  readonly lcn: number;
  readonly count: number;
}

/** A decompressed unit, and what it is a part of. */
interface Unit {
  readonly stream: NtfsStream;
  readonly number: number;
  readonly bytes: Uint8Array;
}

/** The content of an attribute. */
export class NtfsStream {
  /** Bytes of the content. */
  readonly sizeBytes: number;
  /** Bytes of it that were ever written; the rest is zero. */
  readonly initialisedBytes: number;
  /** Bytes that it takes: in clusters without the holes, or in the record. */
  readonly takenBytes: number;
  /** The content, when the record holds it. */
  readonly resident: Uint8Array | undefined;
  readonly #context: StreamContext;
  readonly #pieces: readonly StreamPiece[];
  readonly #flags: number;
  /** Clusters that are compressed together, or 0. */
  readonly #unitClusters: number;

  /** Opens a stream of pieces in order; more may be appended to the same array later. Throws `damaged` for what cannot be. */
  constructor(context: StreamContext, pieces: readonly StreamPiece[]) {
    const [first] = pieces;
    if (first === undefined || first.firstVcn !== 0) {
      throw damaged("opening a stream", "its first piece is missing");
    }
    const { content, flags } = first.load();
    this.#context = context;
    this.#pieces = pieces;
    this.#flags = flags;
    if (content instanceof Uint8Array) {
      if (pieces.length > 1) throw damaged("opening a stream", "it lies in a record, but has several pieces");
      this.resident = content;
      this.sizeBytes = this.initialisedBytes = content.length;
      this.takenBytes = Math.ceil(content.length / 8) * 8;
      this.#unitClusters = 0;
      return;
    }
    this.sizeBytes = content.sizeBytes;
    this.initialisedBytes = content.initialisedBytes;
    this.takenBytes = content.takenBytes;
    const compressed = (flags & ATTRIBUTE_FLAG.compressionMask) !== 0;
    this.#unitClusters = compressed ? 2 ** content.compressionUnit : 0;
    if (this.#unitClusters * context.geometry.clusterBytes > UNIT_BYTES_MAX) {
      throw damaged("opening a stream", `${this.#unitClusters} clusters are compressed together`);
    }
  }

  /** Whether Windows encrypted the content. */
  get encrypted(): boolean {
    return (this.#flags & ATTRIBUTE_FLAG.encrypted) !== 0;
  }

  /** Throws `unsupported` when the content cannot be made readable here. */
  refuseUnreadable(): void {
    if (this.encrypted) {
      throw new VarveError(
        "unsupported",
        "reading a file: Windows encrypted it (EFS), and its key is not here",
      );
    }
    const method = this.#flags & ATTRIBUTE_FLAG.compressionMask;
    if (method !== 0 && method !== ATTRIBUTE_FLAG.lznt1) {
      throw new VarveError("unsupported", `reading a file: it is compressed by the unknown method ${method}`);
    }
  }

  /** Fills `target` from `offset`; returns the bytes put in, short only at the end of the content. */
  read(source: ByteSource, offset: number, target: Uint8Array): number {
    const length = Math.min(target.length, Math.max(0, this.sizeBytes - offset));
    let done = 0;
    for (const run of this.runs(offset, length)) {
      const part = target.subarray(done, done + run.length);
      if (run.kind === "stored") source.read(run.deviceOffset, part);
      else if (run.kind === "hole") part.fill(0);
      else this.#make(source, offset + done, part);
      done += part.length;
    }
    return length;
  }

  /** All of the content. Throws `damaged` when that is more than `maxBytes`. */
  readAll(source: ByteSource, maxBytes: number): Uint8Array {
    if (this.sizeBytes > maxBytes) {
      throw damaged(
        "reading a stream",
        `it has ${this.sizeBytes} bytes, and not more than ${maxBytes} make sense`,
      );
    }
    const bytes = new Uint8Array(this.sizeBytes);
    this.read(source, 0, bytes);
    return bytes;
  }

  /** Where the content from `offset` on lies; both ends must lie within it. */
  *runs(offset: number, length: number): Generator<ContentRun> {
    this.refuseUnreadable();
    const written = Math.min(length, Math.max(0, this.initialisedBytes - offset));
    for (let done = 0; done < written;) {
      const at = offset + done;
      const run = this.resident !== undefined
        ? { kind: "made" as const, length: written }
        : this.#unitClusters === 0
        ? this.#storedRun(at)
        : this.#unitRun(at);
      const part = Math.min(run.length, written - done);
      yield { ...run, length: part };
      done += part;
    }
    if (written < length) yield { kind: "hole", length: length - written };
  }

  #storedRun(at: number): ContentRun {
    const { clusterBytes } = this.#context.geometry;
    const vcn = Math.floor(at / clusterBytes);
    const within = at % clusterBytes;
    const run = this.#find(vcn);
    const length = (run.vcn + run.count - vcn) * clusterBytes - within;
    if (run.lcn === undefined) return { kind: "hole", length };
    return { kind: "stored", length, deviceOffset: (run.lcn + vcn - run.vcn) * clusterBytes + within };
  }

  /** As {@linkcode #storedRun}, where a unit with some clusters but not all is compressed. */
  #unitRun(at: number): ContentRun {
    const { clusterBytes } = this.#context.geometry;
    const unitBytes = this.#unitClusters * clusterBytes;
    const number = Math.floor(at / unitBytes);
    const first = this.#find(number * this.#unitClusters);
    const units = Math.floor((first.vcn + first.count - number * this.#unitClusters) / this.#unitClusters);
    // Whole units in one run are holes, or stored as they are.
    if (units > 0) {
      const end = (number + units) * unitBytes;
      return first.lcn === undefined
        ? { kind: "hole", length: end - at }
        : { ...this.#storedRun(at), length: end - at };
    }
    const length = (number + 1) * unitBytes - at;
    const parts = this.#unitParts(number);
    const clusters = parts.reduce((sum, { count }) => sum + count, 0);
    if (clusters === 0) return { kind: "hole", length };
    if (clusters < this.#unitClusters) return { kind: "made", length };
    const run = this.#storedRun(at);
    return { ...run, length: Math.min(run.length, length) };
  }

  /** The clusters of a unit that are not holes; damaged if some of them follow a hole. */
  #unitParts(number: number): Clusters[] {
    const end = (number + 1) * this.#unitClusters;
    const parts: Clusters[] = [];
    let hole = false;
    for (let vcn = number * this.#unitClusters; vcn < end;) {
      const run = this.#find(vcn);
      const count = Math.min(end, run.vcn + run.count) - vcn;
      if (run.lcn === undefined) hole = true;
      else if (hole) throw damaged("reading a compressed file", `there is a hole within unit ${number}`);
      else parts.push({ lcn: run.lcn + vcn - run.vcn, count });
      vcn += count;
    }
    return parts;
  }

  /** Fills in what does not lie on the device as it is. */
  #make(source: ByteSource, at: number, target: Uint8Array): void {
    if (this.resident !== undefined) {
      target.set(this.resident.subarray(at, at + target.length));
      return;
    }
    const unitBytes = this.#unitClusters * this.#context.geometry.clusterBytes;
    const unit = this.#decompressed(source, Math.floor(at / unitBytes), unitBytes);
    target.set(unit.subarray(at % unitBytes, at % unitBytes + target.length));
  }

  #decompressed(source: ByteSource, number: number, unitBytes: number): Uint8Array {
    const { geometry: { clusterBytes }, units } = this.#context;
    const parts = this.#unitParts(number);
    const key = parts[0]?.lcn ?? 0;
    const cached = units.get(key);
    if (cached?.stream === this && cached.number === number) return cached.bytes;
    const packed = new Uint8Array(unitBytes);
    let filled = 0;
    for (const { lcn, count } of parts) {
      source.read(lcn * clusterBytes, packed.subarray(filled, filled + count * clusterBytes));
      filled += count * clusterBytes;
    }
    const bytes = new Uint8Array(unitBytes);
    decompressLznt1(packed.subarray(0, filled), bytes);
    units.set(key, { stream: this, number, bytes }, unitBytes);
    return bytes;
  }

  /** The run that holds a cluster. Only the piece that it lies in is loaded. */
  #find(vcn: number): Run {
    let low = 0;
    let high = this.#pieces.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#pieces[middle] as StreamPiece).firstVcn <= vcn) low = middle;
      else high = middle - 1;
    }
    const run = findRun(this.#runsOf(low), vcn);
    if (run === undefined) throw damaged("reading a stream", `no run list tells where cluster ${vcn} lies`);
    return run;
  }

  #runsOf(index: number): readonly Run[] {
    const { firstVcn, key, load } = this.#pieces[index] as StreamPiece;
    const cached = this.#context.runs.get(key);
    if (cached?.firstVcn === firstVcn) return cached.runs;
    const { content } = load();
    if (content instanceof Uint8Array || content.firstVcn !== firstVcn) {
      throw damaged("reading a stream", `the piece at cluster ${firstVcn} is missing`);
    }
    const next = this.#pieces[index + 1]?.firstVcn;
    if (next !== undefined && next !== content.endVcn) {
      throw damaged("reading a stream", `its pieces leave a gap at cluster ${content.endVcn}`);
    }
    const runs = this.#decode(content);
    this.#context.runs.set(key, { firstVcn, runs }, 100 + runs.length * RUN_WEIGHT_BYTES);
    return runs;
  }

  #decode({ runList, firstVcn, endVcn }: NonResident): Run[] {
    const { clusterBytes, clusterCount } = this.#context.geometry;
    if (!Number.isSafeInteger(endVcn * clusterBytes)) {
      throw damaged("reading a stream", `it has ${endVcn} clusters`);
    }
    return decodeRunList(runList, { firstVcn, endVcn, clusterCount });
  }
}

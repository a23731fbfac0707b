/**
 * The log that says what a clone has of its own, being written, read at a start, and written anew when it has grown.
 *
 * @module
 */
import path from "node:path";
import { VarveError } from "../base/errors.ts";
import type { Disk, DiskFile } from "../disk/mod.ts";
import {
  ALIGN_BYTES,
  decodeHeader,
  decodeRecord,
  encodeHeader,
  encodeRecord,
  HEADER_BYTES,
  RECORD_BYTES,
  recordBytes,
  type RecordKind,
  type ScratchRecord,
} from "./scratch_format.ts";

const NAME = "map";
const NEXT_NAME = "map.new";
/** Read, and written anew, in pieces of this size. */
const PIECE_BYTES = 1 << 20;
/** A log that is shorter is not written anew. */
const REWRITE_BYTES = 1 << 20;

/** Where a log is, and of what. */
export interface ScratchLogOptions {
  /** Storage. */
  readonly disk: Disk;
  /** The clone's folder. */
  readonly directory: string;
  /** Size of the disk, in bytes. */
  readonly sizeBytes: number;
  /** A log that is shorter is not written anew, in bytes. Default 1 MiB. */
  readonly rewriteBytes?: number;
}

/** A run as a new log begins with it. */
export interface KeptRun {
  /** Whether it has data or is a hole. */
  readonly kind: "kept" | "hole";
  /** First block. */
  readonly first: number;
  /** Number of blocks. */
  readonly count: number;
}

/** One file: where the next record goes. */
class LogFile {
  readonly file: DiskFile;
  position: number;
  number: number;
  #before: { position: number; number: number };

  constructor(file: DiskFile, end: { position: number; number: number }) {
    this.file = file;
    this.position = end.position;
    this.number = end.number;
    this.#before = end;
  }

  /** Writes a record. When that fails the next one takes its place. */
  append(record: Omit<ScratchRecord, "number">): void {
    const bytes = encodeRecord({ ...record, number: this.number + 1 });
    this.file.write(this.position, bytes);
    this.#before = { position: this.position, number: this.number };
    this.position += bytes.length;
    this.number++;
  }

  /** Takes the last record back. */
  retract(): void {
    this.file.truncate(this.#before.position);
    this.position = this.#before.position;
    this.number = this.#before.number;
  }
}

/** See the module. Records are in the file, though not durable, when `append` returns: they survive a kill. */
export class ScratchLog {
  readonly #options: ScratchLogOptions;
  readonly #rewriteBytes: number;
  #current: LogFile;
  /** The file that is to take the place of the current one. */
  #next: LogFile | undefined;
  /** Where the runs end that the new file began with. */
  #nextBegins = { position: HEADER_BYTES, number: 0 };
  #rewriteAt: number;
  #vouched = 0;
  #vouchedBytes = HEADER_BYTES;

  private constructor(options: ScratchLogOptions, current: LogFile) {
    this.#options = options;
    this.#rewriteAt = this.#rewriteBytes = options.rewriteBytes ?? REWRITE_BYTES;
    this.#current = current;
  }

  /** Begins an empty log in a clone's folder; `sync` makes it durable, a sync of the folder its name. */
  static create(options: ScratchLogOptions): ScratchLog {
    const { disk, directory, sizeBytes } = options;
    const file = disk.open(path.join(directory, NAME), { mode: "create-new" });
    try {
      file.write(0, encodeHeader({ sizeBytes, durableRecords: 0 }));
    } catch (thrown) {
      file.close();
      throw thrown;
    }
    return new ScratchLog(options, new LogFile(file, { position: HEADER_BYTES, number: 0 }));
  }

  /**
   * Opens a log and tells `take` what it says, in order, and whether that needs no proof any more. It must be written
   * anew before anything is added. Throws `damaged` when a part is missing that was durable.
   */
  static open(
    options: ScratchLogOptions,
    take: (record: ScratchRecord, isVouched: boolean) => void,
  ): ScratchLog {
    const { disk, directory, sizeBytes } = options;
    const file = disk.open(path.join(directory, NAME), { mode: "write" });
    try {
      const header = new Uint8Array(HEADER_BYTES);
      const told = decodeHeader(header.subarray(0, file.read(0, header)), file.path);
      if (told.sizeBytes !== sizeBytes) {
        const found = `it is of a disk of ${told.sizeBytes} bytes, not ${sizeBytes}`;
        throw new VarveError("damaged", `read ${file.path}: ${found}`);
      }
      let vouched = 0;
      const end = walk(file, (record) => {
        if (record.kind === "vouch") vouched = Math.max(vouched, record.first);
      });
      if (end.number < told.durableRecords || countVouches(file, end) > 1) throw damaged(file, end);
      walk(file, (record) => {
        if (record.kind !== "vouch") take(record, record.kind !== "written" || record.number <= vouched);
      });
      return new ScratchLog(options, new LogFile(file, end));
    } catch (thrown) {
      file.close();
      throw thrown;
    }
  }

  /** Number of the last record. */
  get last(): number {
    return this.#current.number;
  }

  /** Number of the last record that is vouched for. */
  get vouched(): number {
    return this.#vouched;
  }

  /** Bytes of records behind the last vouch. */
  get unvouchedBytes(): number {
    return this.#current.position - this.#vouchedBytes;
  }

  /** Whether it is time to write it anew. */
  get hasGrown(): boolean {
    return this.#current.position > this.#rewriteAt;
  }

  /** Adds a record. When it throws, nothing was added. */
  append(kind: Exclude<RecordKind, "vouch">, first: number, count: number, sums?: Uint32Array): void {
    const record = { kind, first, count, ...(sums === undefined ? {} : { sums }) };
    this.#current.append(record);
    this.#inNext((next) => next.append(record));
  }

  /** Takes the record of the last `append` back, because what it says did not come true. */
  retract(): void {
    this.#current.retract();
    this.#inNext((next) => next.retract());
  }

  /** A new file that cannot keep step is given up; the current one goes on. */
  #inNext(work: (next: LogFile) => void): void {
    if (this.#next === undefined) return;
    try {
      work(this.#next);
    } catch {
      this.#dropNext();
    }
  }

  #dropNext(): void {
    this.#next?.file.close();
    this.#next = undefined;
  }

  /**
   * Says that the data of all records up to one is durable. To be called after its sync and before one of the log; never
   * again after one that has failed.
   */
  vouch(upTo: number): void {
    this.#current.append({ kind: "vouch", first: upTo, count: 0 });
    this.#vouched = upTo;
    this.#vouchedBytes = this.#current.position;
  }

  /** Makes the log durable as it is. */
  async sync(): Promise<void> {
    await this.#current.file.sync();
  }

  /**
   * Begins a new file that says the same in few words. Records added from now on go to both files. False when there is
   * no room for it.
   */
  beginRewrite(runs: Iterable<KeptRun>): boolean {
    const { disk, directory, sizeBytes } = this.#options;
    const file = disk.open(path.join(directory, NEXT_NAME), { mode: "create" });
    try {
      file.truncate(0);
      const end = writeRuns(file, runs);
      file.write(0, encodeHeader({ sizeBytes, durableRecords: end.number }));
      this.#next = new LogFile(file, end);
      this.#nextBegins = end;
      return true;
    } catch (thrown) {
      file.close();
      if (VarveError.from(thrown, "write the log anew").code === "no-space") return false;
      throw thrown;
    }
  }

  /**
   * Gives the new file the name of the old one; to be called when the data of all runs that it began with is durable.
   * False when it was given up meanwhile. The order:
   * 1. The new file is made durable. Were it renamed before, a power cut could leave a name without content.
   * 2. It is renamed. From here on records go to it alone: a kill finds it, and a power cut either one, both of which say
   *    what was flushed before.
   * 3. The name is made durable. Only now may a flush be acknowledged.
   */
  async finishRewrite(): Promise<boolean> {
    const next = this.#next;
    if (next === undefined) return false;
    await next.file.sync();
    if (this.#next !== next) return false;
    const { disk, directory } = this.#options;
    const old = this.#current;
    disk.rename(path.join(directory, NEXT_NAME), path.join(directory, NAME));
    this.#current = next;
    this.#next = undefined;
    old.file.close();
    // What was added since it was begun is not vouched for; the rest needs nobody's word.
    const { position, number } = this.#nextBegins;
    this.#vouched = number;
    this.#vouchedBytes = position;
    this.#rewriteAt = Math.max(this.#rewriteBytes, 2 * position);
    await disk.syncDirectory(directory);
    return true;
  }

  /** Closes the files. */
  close(): void {
    this.#dropNext();
    this.#current.file.close();
  }
}

/** Writes the runs behind the header. */
function writeRuns(file: DiskFile, runs: Iterable<KeptRun>): { position: number; number: number } {
  let position = HEADER_BYTES;
  let number = 0;
  let parts: Uint8Array[] = [];
  const write = () => {
    file.write(position, ...parts);
    position += parts.length * RECORD_BYTES;
    parts = [];
  };
  for (const run of runs) {
    parts.push(encodeRecord({ ...run, number: ++number }));
    if (parts.length * RECORD_BYTES >= PIECE_BYTES) write();
  }
  write();
  return { position, number };
}

/** Goes through the records that prove themselves, from the first on; returns where and with which number they end. */
function walk(file: DiskFile, visit: (record: ScratchRecord) => void): { position: number; number: number } {
  let position = HEADER_BYTES;
  let number = 0;
  let piece = new Uint8Array(0);
  let pieceAt = position;
  const bytesAt = (length: number): Uint8Array => {
    if (position + length > pieceAt + piece.length) {
      const wanted = new Uint8Array(Math.max(PIECE_BYTES, length));
      piece = wanted.subarray(0, file.read(position, wanted));
      pieceAt = position;
    }
    return piece.subarray(position - pieceAt, position - pieceAt + length);
  };
  for (;;) {
    const size = recordBytes(bytesAt(RECORD_BYTES));
    if (size === 0 || size > file.sizeBytes() - position) break;
    const record = decodeRecord(bytesAt(size));
    if (record?.number !== number + 1) break;
    visit(record);
    position += size;
    number++;
  }
  return { position, number };
}

/**
 * Counts the vouches behind the last record that proves itself. What a power cut leaves of the records behind the last
 * durable vouch may have holes; but a vouch is written when the one before is durable with all that precedes it, so two
 * of them behind a hole tell of damage.
 */
function countVouches(file: DiskFile, { position, number }: { position: number; number: number }): number {
  let vouches = 0;
  const piece = new Uint8Array(PIECE_BYTES);
  const stepBytes = PIECE_BYTES - RECORD_BYTES;
  for (let at = position; at < file.sizeBytes(); at += stepBytes) {
    const length = file.read(at, piece);
    for (let from = 0; from < stepBytes && from + RECORD_BYTES <= length; from += ALIGN_BYTES) {
      const bytes = piece.subarray(from, from + RECORD_BYTES);
      const record = recordBytes(bytes) === RECORD_BYTES ? decodeRecord(bytes) : undefined;
      if (record?.kind === "vouch" && record.number > number) vouches++;
    }
  }
  return vouches;
}

function damaged(file: DiskFile, { position }: { position: number }): VarveError {
  return new VarveError(
    "damaged",
    `read ${file.path}: the record at byte ${position} cannot be proved right`,
    {
      hint: "The clone is lost. Delete it, and make it anew from its moment.",
    },
  );
}

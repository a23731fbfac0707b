/**
 * What a clone has of its own: the blocks that were written to it, and the holes that were made in it.
 *
 * ```text
 * DATA/clones/<id>/data.img   the written blocks, each at its place; sparse
 *                  map        which blocks those are, and which are holes (see `scratch_format.ts`)
 * ```
 *
 * A block is the moment's (`base`) until it is changed for the first time; then it is `data` or a `hole` here, for ever.
 *
 * The order of a change, and what breaks if it is swapped: first its record goes to `map`, then the data changes. Were
 * the data changed first, a kill in between would leave a block that proves itself by no checksum, and writes to it that
 * had been acknowledged would be lost.
 *
 * The order of a flush: the data is synced; a vouch for the records before it is written; `map` is synced. Were `map`
 * durable before the data, a power cut would make blocks read as zeroes that nobody has written.
 *
 * After a sync that has failed nobody knows what storage has: everything but reading is refused from then on.
 *
 * @module
 */
import path from "node:path";
import { crc32 } from "node:zlib";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { blocksFor } from "../base/bytes.ts";
import { VarveError } from "../base/errors.ts";
import { Queue } from "../base/turns.ts";
import { formatSize } from "../base/units.ts";
import type { DiskFile } from "../disk/mod.ts";
import { BlockSet } from "./block_set.ts";
import type { ScratchRecord } from "./scratch_format.ts";
import { type KeptRun, ScratchLog, type ScratchLogOptions } from "./scratch_log.ts";

const DATA_NAME = "data.img";
/** With so much that no flush has covered, one is made without being asked for: what a start has to prove is bounded. */
const UNVOUCHED_BYTES_MAX = 8 << 20;

/** Whose a block is. */
export type BlockState = "base" | "data" | "hole";

/** What {@linkcode Scratch} is made with. */
export interface ScratchOptions extends ScratchLogOptions {
  /** Data that it may hold at most, in bytes. */
  readonly budgetBytes: number;
  /** Asked for the bytes of blocks that are about to take space; throws `no-space`. */
  readonly grant: (bytes: number) => void;
}

/** See the module. */
export class Scratch {
  readonly #options: ScratchOptions;
  readonly #blockCount: number;
  readonly #data: DiskFile;
  readonly #log: ScratchLog;
  readonly #stored = new BlockSet();
  readonly #holes = new BlockSet();
  /** Blocks whose last record no vouch covers: each write to one is told again. */
  #unproved = new BlockSet();
  /** Those of them that the flush under way is to vouch for. */
  #vouching = new BlockSet();
  #isDirty = false;
  readonly #syncs = new Queue();
  #nextSync: Promise<void> | undefined;
  #failure: VarveError | undefined;

  private constructor(options: ScratchOptions, files: (scratch: Scratch) => [DiskFile, ScratchLog]) {
    this.#options = options;
    this.#blockCount = blocksFor(options.sizeBytes);
    [this.#data, this.#log] = files(this);
  }

  /** Makes an empty one in a folder that is there; durable when it resolves, but for the folder's own name. */
  static async create(options: ScratchOptions): Promise<Scratch> {
    const { disk, directory, sizeBytes } = options;
    const scratch = new Scratch(options, () => {
      const data = disk.open(path.join(directory, DATA_NAME), { mode: "create-new" });
      return closingOnFailure(data, () => {
        data.truncate(blocksFor(sizeBytes) * BLOCK_BYTES);
        return [data, ScratchLog.create(options)];
      });
    });
    return await scratch.#settled(async () => {
      await scratch.#data.sync();
      await scratch.#log.sync();
      await disk.syncDirectory(directory);
    });
  }

  /** Opens what is there; all of it is durable when this resolves. Throws `damaged` when it cannot be proved right. */
  static async open(options: ScratchOptions): Promise<Scratch> {
    const { disk, directory } = options;
    const scratch = new Scratch(options, (self) => {
      const data = disk.open(path.join(directory, DATA_NAME), { mode: "write" });
      return closingOnFailure(data, () => {
        // An earlier process may have met a sync that failed: what counts is what storage has.
        data.forgetCached();
        const take = (record: ScratchRecord, isVouched: boolean) => self.#take(record, isVouched, data);
        return [data, ScratchLog.open(options, take)];
      });
    });
    return await scratch.#settled(async () => {
      if (await scratch.#rewriteLog()) return;
      throw new VarveError("no-space", `open ${directory}: there is no space to write its map anew`);
    });
  }

  /** Resolves with the scratch when the work has ended well, else closes it. */
  async #settled(work: () => Promise<void>): Promise<this> {
    try {
      await work();
      return this;
    } catch (thrown) {
      this.#closeFiles();
      throw thrown;
    }
  }

  #take(
    { kind, first, count, sums = new Uint32Array() }: ScratchRecord,
    isVouched: boolean,
    data: DiskFile,
  ): void {
    if (first + count > this.#blockCount) {
      throw new VarveError("damaged", `read ${data.path}: its map tells of block ${first + count - 1}`);
    }
    if (kind === "hole") this.#markHole(first, first + count);
    else if (isVouched) this.#markStored(first, first + count);
    else {
      const block = new Uint8Array(BLOCK_BYTES);
      for (const [index, sum] of sums.entries()) {
        readAll(data, (first + index) * BLOCK_BYTES, block);
        if (crc32(block) === sum) this.#markStored(first + index, first + index + 1);
      }
    }
  }

  #markStored(from: number, until: number): void {
    this.#stored.add(from, until);
    this.#holes.remove(from, until);
  }

  #markHole(from: number, until: number): void {
    this.#stored.remove(from, until);
    this.#holes.add(from, until);
  }

  /** Data that it holds, in bytes. */
  get storedBytes(): number {
    return this.#stored.size * BLOCK_BYTES;
  }

  /** Whose a block is, and up to which block, at most `until`, the following are the same. */
  stateAt(block: number, until: number): { state: BlockState; until: number } {
    if (this.#stored.has(block)) return { state: "data", until: this.#stored.next(block, until, false) };
    if (this.#holes.has(block)) return { state: "hole", until: this.#holes.next(block, until, false) };
    return { state: "base", until: this.#holes.next(block, this.#stored.next(block, until)) };
  }

  /** Fills `target` from a range of bytes that is all data. */
  read(offset: number, target: Uint8Array): void {
    readAll(this.#data, offset, target);
  }

  /** Throws `no-space` unless so many blocks more may have data; `io` after a sync that has failed. */
  checkRoom(blocks: number): void {
    if (this.#failure !== undefined) throw this.#failure;
    const { budgetBytes, directory } = this.#options;
    if (this.storedBytes + blocks * BLOCK_BYTES <= budgetBytes) return;
    throw new VarveError(
      "no-space",
      `write ${blocks * BLOCK_BYTES} bytes to the clone in ${directory}: its budget is ${
        formatSize(budgetBytes)
      }, and it holds ${formatSize(this.storedBytes)}`,
      { hint: "Trim what it does not need, or make a clone with a larger budget." },
    );
  }

  /** Writes whole blocks; `parts` are kept by the caller. */
  write(first: number, parts: readonly Uint8Array[]): void {
    const count = parts.reduce((sum, part) => sum + part.length, 0) / BLOCK_BYTES;
    const until = first + count;
    const fresh = count - this.#stored.count(first, until);
    this.checkRoom(fresh);
    if (fresh > 0) this.#options.grant(fresh * BLOCK_BYTES);
    const needsProof = fresh > 0 ||
      this.#unproved.count(first, until) + this.#vouching.count(first, until) > 0;
    this.#isDirty = true;
    if (needsProof) this.#log.append("written", first, count, sumsOf(parts, count));
    this.#change(needsProof, () => this.#data.write(first * BLOCK_BYTES, ...parts));
    if (!needsProof) return;
    this.#markStored(first, until);
    this.#unproved.add(first, until);
  }

  /** Makes blocks holes, and gives back the space of their data. */
  clear(first: number, until: number): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#holes.count(first, until) === until - first) return;
    this.#log.append("hole", first, until - first);
    this.#change(true, () => {
      const from = this.#stored.next(first, until);
      if (from < until) this.#data.discard(from * BLOCK_BYTES, (until - from) * BLOCK_BYTES);
    });
    this.#markHole(first, until);
  }

  /** A record that has not come true is taken back: a vouch would make the clone's what was never written. */
  #change(isTold: boolean, work: () => void): void {
    try {
      work();
    } catch (thrown) {
      if (!isTold) throw thrown;
      try {
        this.#log.retract();
      } catch (again) {
        this.#fail(again);
      }
      throw thrown;
    }
  }

  #fail(thrown: unknown): VarveError {
    const { code, message } = VarveError.from(thrown, `make the clone in ${this.#options.directory} durable`);
    return this.#failure ??= new VarveError(code === "no-space" ? code : "io", message, {
      cause: thrown,
      hint:
        "What the clone was told before its last flush is in doubt. Make it anew, or start the appliance again.",
    });
  }

  /** Resolves when everything that was changed before the call survives power loss. */
  sync(): Promise<void> {
    return this.#nextSync ??= this.#syncs.run(() => {
      this.#nextSync = undefined;
      return this.#makeDurable();
    });
  }

  /** When a start would have much to prove: resolves when a sync has made it less. Never rejects. */
  pressure(): Promise<void> | undefined {
    if (this.#log.unvouchedBytes <= UNVOUCHED_BYTES_MAX || this.#failure !== undefined) return undefined;
    return this.sync().catch(() => {});
  }

  async #makeDurable(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.#isDirty && this.#log.last === this.#log.vouched) return;
    this.#isDirty = false;
    this.#vouching = this.#unproved;
    this.#unproved = new BlockSet();
    if (this.#log.hasGrown && await this.#rewriteLog()) this.#vouching = new BlockSet();
    else await this.#vouch();
  }

  async #vouch(): Promise<void> {
    const upTo = this.#log.last;
    await this.#orFail(() => this.#data.sync());
    try {
      if (upTo > this.#log.vouched) this.#log.vouch(upTo);
    } catch (thrown) {
      // Nothing is lost: the next flush does it all again.
      for (const [from, until] of runsOf(this.#vouching, this.#blockCount)) this.#unproved.add(from, until);
      this.#isDirty = true;
      throw thrown;
    }
    this.#vouching = new BlockSet();
    await this.#orFail(() => this.#log.sync());
  }

  /** As a flush, with the map written anew; false when there is no room for that, and nothing was done. */
  async #rewriteLog(): Promise<boolean> {
    if (!this.#log.beginRewrite(this.#runs())) return false;
    return await this.#orFail(async () => {
      await this.#data.sync();
      return await this.#log.finishRewrite();
    });
  }

  async #orFail<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (thrown) {
      throw this.#fail(thrown);
    }
  }

  *#runs(): Generator<KeptRun> {
    for (const [first, until] of runsOf(this.#stored, this.#blockCount)) {
      yield { kind: "kept", first, count: until - first };
    }
    for (const [first, until] of runsOf(this.#holes, this.#blockCount)) {
      yield { kind: "hole", first, count: until - first };
    }
  }

  /** Makes everything durable, if it can be, and closes the files. */
  async close(): Promise<void> {
    try {
      await this.sync();
    } finally {
      this.#closeFiles();
    }
  }

  /** Closes the files without another sync: what is there is about to go. Waits for a sync under way. */
  async abandon(): Promise<void> {
    this.#failure ??= new VarveError("conflict", "use a clone: it is being deleted");
    await this.#syncs.idle();
    this.#closeFiles();
  }

  #closeFiles(): void {
    this.#data.close();
    this.#log.close();
  }
}

function closingOnFailure<T>(file: DiskFile, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    file.close();
    throw thrown;
  }
}

function readAll(file: DiskFile, offset: number, target: Uint8Array): void {
  if (file.read(offset, target) === target.length) return;
  throw new VarveError(
    "damaged",
    `read ${target.length} bytes at ${offset} of ${file.path}: it is too short`,
  );
}

function* runsOf(set: BlockSet, blockCount: number): Generator<[number, number]> {
  for (let from = set.next(0, blockCount); from < blockCount;) {
    const until = set.next(from, blockCount, false);
    yield [from, until];
    from = set.next(until, blockCount);
  }
}

function sumsOf(parts: readonly Uint8Array[], count: number): Uint32Array {
  const sums = new Uint32Array(count);
  let index = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; at += BLOCK_BYTES) {
      sums[index++] = crc32(part.subarray(at, at + BLOCK_BYTES));
    }
  }
  return sums;
}

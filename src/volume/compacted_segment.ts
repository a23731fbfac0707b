/**
 * A segment that a compaction writes: a header, a text that names the segments it replaces, and records of theirs.
 *
 * @module
 */
import path from "node:path";
import { crc32 } from "node:zlib";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler } from "../base/turns.ts";
import type { Retained } from "../catalog/moments.ts";
import type { MapExtent } from "../catalog/recovery_map.ts";
import type { Disk, DiskFile } from "../disk/mod.ts";
import {
  encodeBlockRecord,
  encodeRecordHeader,
  encodeSegmentHeader,
  type NewRecord,
  RECORD_HEADER_BYTES,
  RECORD_PARTIAL,
  type RecordPlace,
  SEGMENT_COMPACTED,
  segmentFileName,
  type SegmentReader,
} from "../journal/mod.ts";
import type { JournalText } from "./journal_text.ts";

/** What was written is proved in pieces of this size, in bytes. */
const PROOF_BYTES = 1 << 20;

/** A run of blocks of a condemned segment that some kept moment sees; blocks count from the volume's start. */
export type LivingRun = MapExtent;

/** What a new segment says of itself. */
export interface CompactedSegmentParts {
  /** Storage. */
  readonly disk: Disk;
  /** Reads old segments, and proves the new one. */
  readonly segments: SegmentReader;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** Where the segments are. */
  readonly directory: string;
  /** 32 hexadecimal digits. */
  readonly volumeId: string;
  /** Its number. */
  readonly segment: number;
  /** The sequence before its first. */
  readonly previousSeq: number;
  /** Its time, in microseconds. */
  readonly createdUs: number;
  /** Segments that will be deleted. */
  readonly replaces: readonly number[];
  /** Which moments exist. */
  readonly retained: Retained;
}

/** A new segment under its name. */
export interface MadeSegment {
  readonly segment: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly bytes: number;
}

/** A record to carry over: a run of blocks, or a hole. */
export interface Carried {
  readonly segment: number;
  readonly offset: number;
  readonly seq: number;
  readonly run: LivingRun | undefined;
}

/** A new segment, from its first byte until it has its name. */
export class CompactedSegment {
  readonly #parts: CompactedSegmentParts;
  readonly #file: DiskFile;
  readonly #place: string;
  #firstSeq: number;
  #records = 0;
  #lastSeq: number;
  #bytes = 0;
  #syncedBytes = 0;
  #open = true;

  /** Begins it under a temporary name. */
  constructor(parts: CompactedSegmentParts) {
    this.#parts = parts;
    this.#firstSeq = parts.previousSeq + 1;
    this.#lastSeq = parts.previousSeq;
    this.#place = path.join(parts.directory, segmentFileName(parts.segment));
    this.#file = parts.disk.open(`${this.#place}.tmp`, { mode: "create-new" });
    try {
      this.#appendHead();
    } catch (thrown) {
      this.abandon();
      throw thrown;
    }
  }

  #appendHead(): void {
    const { volumeId, segment, previousSeq, createdUs, replaces, retained } = this.#parts;
    const seq = Math.max(0, previousSeq);
    this.#append(encodeSegmentHeader({
      flags: SEGMENT_COMPACTED,
      volumeId,
      segment,
      previousSeq: seq,
      previousBaseline: 0,
      createdUs,
    }));
    const said = { type: "compaction", replaces: [...replaces], retained } satisfies JournalText;
    const text = new TextEncoder().encode(JSON.stringify(said));
    const head = new Uint8Array(RECORD_HEADER_BYTES);
    encodeRecordHeader(
      {
        kind: "meta",
        flags: 0,
        seq,
        timeUs: createdUs,
        offset: 0,
        length: 0,
        firstBlock: 0,
        client: 0,
        payloadBytes: text.length,
        bodyChecksum: crc32(text),
      },
      segment,
      head,
      0,
    );
    this.#append(head, text);
  }

  /** What is told of it when it is published. */
  get info(): MadeSegment {
    return {
      segment: this.#parts.segment,
      firstSeq: this.#firstSeq,
      lastSeq: this.#lastSeq,
      bytes: this.#bytes,
    };
  }

  /** Its size so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes of it that no sync has covered yet. */
  get unsyncedBytes(): number {
    return this.#bytes - this.#syncedBytes;
  }

  #append(...parts: Uint8Array[]): void {
    this.#file.write(this.#bytes, ...parts);
    this.#bytes += parts.reduce((sum, part) => sum + part.length, 0);
  }

  /** Carries one record over; its blocks are proved right on the way. */
  carry({ segment, offset, seq, run }: Carried): RecordPlace {
    const source = this.#parts.segments.recordHeader(segment, offset);
    const place = { segment: this.#parts.segment, offset: this.#bytes };
    const kept: NewRecord = {
      kind: source.kind,
      flags: source.flags,
      seq: source.seq,
      timeUs: source.timeUs,
      offset: source.offset,
      length: source.length,
      firstBlock: source.firstBlock,
      client: source.client,
    };
    if (run === undefined) {
      // The cut blocks at its ends, where they live, are carried as runs of their own.
      const flags = source.flags | RECORD_PARTIAL;
      this.#append(...encodeBlockRecord({ ...kept, flags }, this.#parts.segment, new Uint8Array(0)));
    } else {
      const payload = new Uint8Array(run.blockCount * BLOCK_BYTES);
      this.#parts.segments.readBlocks({
        segment,
        recordOffset: offset,
        payloadBlock: run.payloadBlock,
        blockCount: run.blockCount,
        seq,
        firstBlock: run.firstBlock,
      }, payload);
      const kind = source.kind === "baseline" ? "baseline" : "write";
      const record: NewRecord = { ...kept, kind, flags: RECORD_PARTIAL, firstBlock: run.firstBlock };
      this.#append(...encodeBlockRecord(record, this.#parts.segment, payload));
    }
    this.#records++;
    this.#firstSeq = Math.min(this.#firstSeq, seq);
    this.#lastSeq = Math.max(this.#lastSeq, seq);
    return place;
  }

  /** Makes durable what was written so far. */
  async sync(): Promise<void> {
    const bytes = this.#bytes;
    await this.#file.sync();
    this.#syncedBytes = bytes;
  }

  /** Makes the segment durable, proves it by reading it back and gives it its name. */
  async publish(): Promise<void> {
    await this.sync();
    this.#close();
    this.#parts.disk.rename(`${this.#place}.tmp`, this.#place);
    await this.#proveWhole();
    await this.#parts.disk.syncDirectory(this.#parts.directory);
  }

  async #proveWhole(): Promise<void> {
    let records = 0;
    let validBytes = 0;
    for (let paused = true; paused;) {
      const from = validBytes;
      paused = false;
      ({ validBytes } = this.#parts.segments.scan(this.#parts.segment, from, ({ header, offset }) => {
        paused = offset - from >= PROOF_BYTES;
        if (!paused && header.kind !== "meta") records++;
        return !paused;
      }));
      await pause(this.#parts.scheduler);
    }
    if (validBytes !== this.#bytes || records !== this.#records) {
      throw new VarveError(
        "damaged",
        `rewrite segments: ${this.#place} does not read back as it was written`,
        { hint: "The storage of the data folder fails. The old segments are untouched." },
      );
    }
  }

  #close(): void {
    if (this.#open) this.#file.close();
    this.#open = false;
  }

  /** Gives it up, whether it has its name already or not. */
  abandon(): void {
    this.#close();
    this.#parts.segments.forget(this.#parts.segment);
    this.#parts.disk.remove(`${this.#place}.tmp`);
    this.#parts.disk.remove(this.#place);
  }
}

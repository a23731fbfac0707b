/**
 * Explains one segment file: what its header says, what it holds, and whether every checksum holds.
 *
 * @module
 */
import path from "node:path";
import { VarveError } from "./base/errors.ts";
import { formatTime } from "./base/time.ts";
import { type Disk, FileDisk } from "./disk/mod.ts";
import {
  CompressedSegmentFile,
  damagedAsZeroes,
  decodeSegmentHeader,
  FrameCache,
  isBodyWhole,
  isCommand,
  isCompressedSegment,
  isText,
  parseSegmentFileName,
  readText,
  RECORD_FUA,
  RECORD_HEAD,
  RECORD_HEADER_BYTES,
  RECORD_KINDS,
  RECORD_PARTIAL,
  RECORD_TAIL,
  recordBytes,
  type RecordHeader,
  type RecordKind,
  SEGMENT_COMPACTED,
  SEGMENT_HEADER_BYTES,
  type SegmentBytes,
  type SegmentHeader,
  walkSegment,
} from "./journal/mod.ts";
import type { JournalText } from "./volume/journal_text.ts";

const FRAME_CACHE_BYTES = 1 << 20;

/** One record, for people and programs. */
export interface InspectedRecord {
  /** First byte of its header. */
  readonly offset: number;
  /** Bytes it takes. */
  readonly bytes: number;
  /** What it records. */
  readonly kind: RecordKind;
  /** Names of its flags. */
  readonly flags: string[];
  /** Sequence. */
  readonly seq: number;
  /** Its time, RFC 3339 with microseconds. */
  readonly time: string;
  /** First byte of the volume, as the host sent it. */
  readonly hostOffset: number;
  /** Number of bytes, as the host sent it. */
  readonly hostLength: number;
  /** First block of the payload. */
  readonly firstBlock: number;
  /** Size of the payload. */
  readonly payloadBytes: number;
  /** The connection that sent it. */
  readonly client: number;
  /** Text of a mark or meta record. */
  readonly text?: unknown;
  /** What is wrong with it. */
  readonly damage?: string;
}

/** Bytes that are not what they were. */
export interface InspectedDamage {
  /** First byte. */
  readonly offset: number;
  /** Byte after the last. */
  readonly end: number;
  /** What was found. */
  readonly found: string;
}

/** What a segment file comes to. */
export interface InspectedSegment {
  /** The file. */
  readonly file: string;
  /** Its size; for a compressed one that of what it stands for, in which all places are counted. */
  readonly bytes: number;
  /** Bytes that the file takes. */
  readonly storedBytes: number;
  /** Bytes at its end that were reserved and never written: it is being written, or was when the appliance ended. */
  readonly unusedBytes: number;
  /** What its header says; left out when it cannot be read. */
  readonly header?: Omit<SegmentHeader, "createdUs" | "flags"> & { created: string; compacted: boolean };
  /** The volume as the newest text has it. */
  readonly volume?: { name: string; sizeBytes: number; marks: number };
  /** Segments that a compacted one stands for. */
  readonly replaces?: number[];
  /** Records by kind. */
  readonly records: Partial<Record<RecordKind, number>>;
  /** All payloads together. */
  readonly payloadBytes: number;
  /** First and last command. */
  readonly first?: { seq: number; time: string };
  /** Last command. */
  readonly last?: { seq: number; time: string };
  /** Whether every checksum holds. */
  readonly isWhole: boolean;
  /** Where not, in the order of the file. */
  readonly damage: InspectedDamage[];
}

/**
 * Reads a whole segment, telling each record to `onRecord`. Throws `not-found` and `io` for a file that cannot be read,
 * `invalid` for one that is no segment at all, `unsupported` for another version. Memory: one record.
 */
export function inspectSegment(
  place: string,
  options: { disk?: Disk; onRecord?: (record: InspectedRecord) => void } = {},
): InspectedSegment {
  const stored = (options.disk ?? new FileDisk()).open(place);
  let file = stored;
  try {
    const storedBytes = stored.sizeBytes();
    if (isCompressedSegment(stored)) {
      file = new CompressedSegmentFile(stored, new FrameCache(FRAME_CACHE_BYTES));
    }
    return inspect(
      { place, storedBytes, bytes: damagedAsZeroes(file), mayBeUnfinished: file === stored },
      options.onRecord ?? (() => {}),
    );
  } finally {
    file.close();
  }
}

function inspect(
  { place, storedBytes, bytes: file, mayBeUnfinished }: {
    place: string;
    storedBytes: number;
    bytes: SegmentBytes;
    mayBeUnfinished: boolean;
  },
  onRecord: (record: InspectedRecord) => void,
): InspectedSegment {
  const head = new Uint8Array(SEGMENT_HEADER_BYTES);
  const header = decodeSegmentHeader(head.subarray(0, file.read(0, head)));
  // The number is in every record's checksum, so it is needed even where the header is damaged.
  const segment = header?.segment ?? parseSegmentFileName(path.basename(place).slice(0, 16));
  if (segment === undefined) {
    throw new VarveError("invalid", `inspect ${place}: it does not begin as a segment does`, {
      hint: "A segment lies in DATA/volumes/ID/segments and is called NNNNNNNNNNNN.seg.",
    });
  }
  const damage: InspectedDamage[] = [];
  if (header === undefined) {
    damage.push({ offset: 0, end: SEGMENT_HEADER_BYTES, found: "the segment's header" });
  }
  const counts: Partial<Record<RecordKind, number>> = {};
  let payloadBytes = 0;
  let first: RecordHeader | undefined;
  let last: RecordHeader | undefined;
  let told: JournalText | undefined;
  let replaces: number[] | undefined;
  let unusedBytes = 0;
  for (const step of walkSegment(file, segment)) {
    if (step.kind === "unused" && mayBeUnfinished && !isCompacted(header)) {
      unusedBytes = step.end - step.offset;
      continue;
    }
    if (step.kind !== "record") {
      damage.push({ offset: step.offset, end: step.end, found: "no record" });
      continue;
    }
    const record = inspectRecord(file, step);
    if (record.damage !== undefined) {
      damage.push({ offset: record.offset, end: record.offset + record.bytes, found: record.damage });
    }
    counts[record.kind] = (counts[record.kind] ?? 0) + 1;
    payloadBytes += record.payloadBytes;
    if (isCommand(record.kind)) {
      first ??= step.header;
      last = step.header;
    }
    const text = record.text as JournalText | undefined;
    if (text?.type === "volume") told = text;
    if (text?.type === "compaction") replaces = text.replaces;
    onRecord(record);
  }
  const moment = (record: RecordHeader) => ({ seq: record.seq, time: formatTime(record.timeUs, 6) });
  return {
    file: place,
    bytes: file.sizeBytes(),
    storedBytes,
    unusedBytes,
    ...(header === undefined ? {} : { header: headerOf(header) }),
    ...(told?.type === "volume"
      ? { volume: { name: told.volume.name, sizeBytes: told.volume.sizeBytes, marks: told.marks.length } }
      : {}),
    ...(replaces === undefined ? {} : { replaces }),
    records: counts,
    payloadBytes,
    ...(first === undefined ? {} : { first: moment(first) }),
    ...(last === undefined ? {} : { last: moment(last) }),
    isWhole: damage.length === 0,
    damage,
  };
}

function headerOf(header: SegmentHeader): NonNullable<InspectedSegment["header"]> {
  const { volumeId, segment, previousSeq, previousBaseline, createdUs, flags } = header;
  return {
    volumeId,
    segment,
    previousSeq,
    previousBaseline,
    created: formatTime(createdUs, 6),
    compacted: isCompacted({ flags }),
  };
}

function isCompacted(header: { flags: number } | undefined): boolean {
  return ((header?.flags ?? 0) & SEGMENT_COMPACTED) !== 0;
}

const FLAG_NAMES = [
  [RECORD_FUA, "fua"],
  [RECORD_PARTIAL, "partial"],
  [RECORD_HEAD, "head"],
  [RECORD_TAIL, "tail"],
] as const;

function inspectRecord(
  file: SegmentBytes,
  { header, offset, mended }: { header: RecordHeader; offset: number; mended: boolean },
): InspectedRecord {
  const bytes = recordBytes(header);
  const body = new Uint8Array(bytes - RECORD_HEADER_BYTES);
  const isWhole = file.read(offset + RECORD_HEADER_BYTES, body) === body.length && isBodyWhole(header, body);
  const text = isText(header.kind) ? readText(file, offset, header) : undefined;
  const damage = mended ? "a byte of its header has changed" : isWhole ? undefined : "its body has changed";
  return {
    offset,
    bytes,
    kind: header.kind,
    flags: FLAG_NAMES.flatMap(([flag, name]) => (header.flags & flag) === 0 ? [] : [name]),
    seq: header.seq,
    time: formatTime(header.timeUs, 6),
    hostOffset: header.offset,
    hostLength: header.length,
    firstBlock: header.firstBlock,
    payloadBytes: header.payloadBytes,
    client: header.client,
    ...(text === undefined ? {} : { text: JSON.parse(text) as unknown }),
    ...(damage === undefined ? {} : { damage }),
  };
}

/** Kinds of records in the order of their numbers. */
export const KINDS_IN_ORDER: readonly RecordKind[] = Object.entries(RECORD_KINDS)
  .sort(([, a], [, b]) => a - b)
  .map(([kind]) => kind as RecordKind);

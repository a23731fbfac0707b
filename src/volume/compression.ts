/**
 * Compresses one finished segment. The work is divided: {@linkcode compressSegment} prepares the compressed file
 * beside the segment and touches nothing else, so that a Worker can do it; {@linkcode publishCompressed} puts it in
 * the segment's place, on the thread that prunes and indexes.
 *
 * The order of steps, and what breaks if two are swapped:
 * 1. Every record of the original is proved whole. A damaged segment is left as it is: in compressed form one bad byte
 *    would be sealed under a checksum that matches.
 * 2. The compressed form is written to `N.seg.tmp` and synced. Renamed before the sync, a power cut could leave the name
 *    with a file that has no content, and the original gone.
 * 3. It is opened again and every virtual byte compared with the original. After the rename there would be nothing left
 *    to compare with.
 * 4. Between two batches of the map's work: unless a prune wants the segment or has deleted it, the file is renamed over
 *    the original, readers of this thread let go of the old file, and the folder is synced. Without the first half a
 *    segment that a prune has deleted would come back. Readers in other threads that have the old file open go on reading
 *    the same bytes from it.
 * 5. The map notes the stored size. Were it noted first, a crash would leave a wrong figure; this way it leaves a
 *    compressed segment that the next pass recognises.
 * A crash between any two leaves the original or the compressed form under the name, whole; `.tmp` files are removed at
 * the next start.
 *
 * @module
 */
import path from "node:path";
import { VarveError } from "../base/errors.ts";
import type { Scheduler } from "../base/turns.ts";
import type { Disk, DiskFile } from "../disk/mod.ts";
import {
  CompressedSegmentFile,
  encodeCompressedSegment,
  encodeFrame,
  FRAME_BYTES,
  FrameCache,
  segmentFileName,
  SegmentReader,
} from "../journal/mod.ts";
import { VOLUME_FILES } from "../timeline/past.ts";
import { type Pace, Pacer } from "./pacer.ts";
import type { Volume } from "./volume.ts";

/**
 * A segment is left as it is unless its stored size shrinks to this share of it: a random read of a compressed one costs
 * several times as much.
 */
const STORED_SHARE_MAX = 0.8;
/** One frame of so many is tried before a segment is compressed in earnest. */
const PROBE_STEP = 16;
/** Records are proved in pieces of this size, in bytes, so that others get their turn. */
const PROOF_BYTES = 1 << 20;
/** What is written is synced in steps of this size, in bytes, so that no sync of the journal waits long behind it. */
const SYNC_BYTES = 4 << 20;
/** The original and its compressed form exist together for a while; so much space must stay free beside them. */
const FREE_BYTES_MIN = 256 << 20;

/** Which segment to compress. */
export interface CompressionOrder {
  /** The volume's folder. */
  readonly directory: string;
  /** 32 hexadecimal digits. */
  readonly volumeId: string;
  /** Number of a finished segment. */
  readonly segment: number;
}

/** What came of it. */
export type CompressionOutcome =
  /** The compressed form lies beside the segment, proved and synced. */
  | { readonly kind: "ready"; readonly rawBytes: number; readonly storedBytes: number }
  /** The segment has its compressed form already. */
  | { readonly kind: "already"; readonly rawBytes: number; readonly storedBytes: number }
  /** Compressing it gains too little. */
  | { readonly kind: "incompressible"; readonly rawBytes: number }
  /** Not every record of it is whole; from this byte on. */
  | { readonly kind: "damaged"; readonly rawBytes: number; readonly validBytes: number };

/** Means of {@linkcode compressSegment}. */
export interface CompressionMeans {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** How much of the machine it may take. */
  readonly pace: Pace;
  /** Stops it when aborted. */
  readonly signal: AbortSignal;
}

function placeOf(order: Pick<CompressionOrder, "directory" | "segment">): string {
  return path.join(order.directory, VOLUME_FILES.segments, segmentFileName(order.segment));
}

/**
 * Takes steps 1 to 3. Throws `no-space` when there is too little room to work in, `cancelled` when aborted; nothing is
 * left behind then.
 */
export async function compressSegment(
  disk: Disk,
  order: CompressionOrder,
  means: CompressionMeans,
): Promise<CompressionOutcome> {
  const place = placeOf(order);
  const pacer = new Pacer(means.scheduler, means.pace, means.signal);
  const segments = new SegmentReader(disk, path.dirname(place));
  try {
    if (segments.isCompressed(order.segment)) {
      const rawBytes = segments.sizeBytes(order.segment);
      return { kind: "already", rawBytes, storedBytes: disk.stat(place)?.sizeBytes ?? rawBytes };
    }
    const rawBytes = segments.sizeBytes(order.segment);
    const validBytes = await pacer.run(proveWhole(segments, order));
    if (validBytes !== rawBytes) return { kind: "damaged", rawBytes, validBytes };
    const source = disk.open(place);
    try {
      if (await pacer.run(probe(source)) > rawBytes * STORED_SHARE_MAX) {
        return { kind: "incompressible", rawBytes };
      }
      return await writeCompressed(disk, order, source, pacer);
    } finally {
      source.close();
    }
  } finally {
    segments.close();
  }
}

/** Proves records in pieces; returns where the whole ones end. */
function* proveWhole(segments: SegmentReader, order: CompressionOrder): Generator<number, number> {
  const header = segments.header(order.segment);
  if (header?.segment !== order.segment || header.volumeId !== order.volumeId) return 0;
  for (let from = 0;;) {
    let paused = false;
    const { validBytes } = segments.scan(order.segment, from, ({ offset }) => {
      paused = offset - from >= PROOF_BYTES;
      return !paused;
    });
    yield validBytes - from;
    if (!paused) return validBytes;
    from = validBytes;
  }
}

/** Estimates the compressed size from a sample of frames. */
function* probe(source: DiskFile): Generator<number, number> {
  const sizeBytes = source.sizeBytes();
  const frame = new Uint8Array(FRAME_BYTES);
  let rawBytes = 0;
  let storedBytes = 0;
  for (let at = 0; at < sizeBytes; at += PROBE_STEP * FRAME_BYTES) {
    const got = source.read(at, frame);
    rawBytes += got;
    storedBytes += encodeFrame(frame.subarray(0, got)).length;
    yield got;
  }
  return storedBytes / rawBytes * sizeBytes;
}

async function writeCompressed(
  disk: Disk,
  order: CompressionOrder,
  source: DiskFile,
  pacer: Pacer,
): Promise<CompressionOutcome> {
  const rawBytes = source.sizeBytes();
  const place = `${placeOf(order)}.tmp`;
  const { freeBytes } = disk.space(path.dirname(place));
  if (freeBytes < rawBytes + FREE_BYTES_MIN) {
    throw new VarveError("no-space", `compress ${source.path}: ${freeBytes} bytes are free`, {
      hint: "It is tried again later; a prune gives space back.",
    });
  }
  disk.remove(place);
  const target = disk.open(place, { mode: "create-new" });
  try {
    let storedBytes: number;
    let doneBytes = 0;
    try {
      storedBytes = await pacer.run(encodeCompressedSegment(source, target, order), async (bytes) => {
        doneBytes += bytes;
        if (doneBytes < SYNC_BYTES) return;
        doneBytes = 0;
        await target.sync();
      });
      await target.sync();
    } finally {
      target.close();
    }
    if (storedBytes > rawBytes * STORED_SHARE_MAX) {
      disk.remove(place);
      return { kind: "incompressible", rawBytes };
    }
    await proveSame(disk, order, source, pacer);
    return { kind: "ready", rawBytes, storedBytes };
  } catch (thrown) {
    removeQuietly(disk, place);
    throw thrown;
  }
}

async function proveSame(
  disk: Disk,
  order: CompressionOrder,
  source: DiskFile,
  pacer: Pacer,
): Promise<void> {
  const file = disk.open(`${placeOf(order)}.tmp`);
  try {
    const compressed = new CompressedSegmentFile(file, new FrameCache(FRAME_BYTES));
    const { segment, volumeId } = compressed.header;
    if (
      segment !== order.segment || volumeId !== order.volumeId ||
      !await pacer.run(compare(source, compressed))
    ) {
      throw new VarveError("damaged", `compress ${source.path}: it does not read back as it was`, {
        hint: "The storage of the data folder fails. The original is untouched.",
      });
    }
  } finally {
    file.close();
  }
}

function* compare(source: DiskFile, compressed: DiskFile): Generator<number, boolean> {
  const sizeBytes = source.sizeBytes();
  if (compressed.sizeBytes() !== sizeBytes) return false;
  const expected = new Uint8Array(FRAME_BYTES);
  const found = new Uint8Array(FRAME_BYTES);
  for (let at = 0; at < sizeBytes; at += FRAME_BYTES) {
    const count = source.read(at, expected);
    if (compressed.read(at, found) !== count) return false;
    for (let i = 0; i < count; i++) if (expected[i] !== found[i]) return false;
    yield count;
  }
  return true;
}

function removeQuietly(disk: Disk, place: string): void {
  try {
    disk.remove(place);
  } catch {
    // The next start removes it; what went wrong before is what matters.
  }
}

/** The oldest segment that may be compressed and has not been tried, apart from those in `without`. */
export function nextToCompress(volume: Volume, without: ReadonlySet<number>): number | undefined {
  // What the next start would scan is left alone, for a start may have to cut its end off.
  const statement = volume.map.statement(
    "SELECT min(segment) AS segment FROM segments WHERE segment > ? AND stored_bytes IS NULL AND retired = 0 AND (compacted = 1 OR segment < ?)",
  );
  const scanSegment = volume.map.getState("scan_segment", 1);
  for (let after = 0;;) {
    const found = statement.get(after, scanSegment)?.["segment"];
    if (found === undefined || found === null) return undefined;
    const segment = Number(found);
    if (!without.has(segment) && !volume.condemned.has(segment)) return segment;
    after = segment;
  }
}

/** Takes steps 4 and 5, or notes that the segment stays as it is. Returns whether its form was changed. */
export async function publishCompressed(
  volume: Volume,
  disk: Disk,
  segment: number,
  outcome: CompressionOutcome,
): Promise<boolean> {
  const place = placeOf({ directory: volume.directory, segment });
  return await volume.exclusively(async () => {
    const listed = volume.map.statement("SELECT 1 FROM segments WHERE segment = ? AND retired = 0").get(
      segment,
    );
    const wanted = listed !== undefined && !volume.condemned.has(segment);
    if (outcome.kind === "ready") {
      if (!wanted) {
        disk.remove(`${place}.tmp`);
        return false;
      }
      disk.rename(`${place}.tmp`, place);
      volume.segments.forget(segment);
      await disk.syncDirectory(path.dirname(place));
    }
    if (wanted) {
      const storedBytes = "storedBytes" in outcome ? outcome.storedBytes : outcome.rawBytes;
      volume.map.transaction(() =>
        volume.map.statement("UPDATE segments SET stored_bytes = ? WHERE segment = ?").run(
          storedBytes,
          segment,
        )
      );
    }
    return wanted && outcome.kind === "ready";
  });
}

/** What compression has done for a volume. */
export interface CompressionTotals {
  /** Segments in compressed form. */
  readonly compressedSegments: number;
  /** Bytes that they stand for. */
  readonly rawBytes: number;
  /** Bytes that they take. */
  readonly storedBytes: number;
}

/** What compression has done for a volume, by what the map has noted. */
export function compressionTotals(volume: Pick<Volume, "map"> | undefined): CompressionTotals {
  const row = volume?.map.statement(
    "SELECT count(*) AS n, coalesce(sum(bytes), 0) AS raw, coalesce(sum(stored_bytes), 0) AS stored FROM segments WHERE stored_bytes < bytes AND retired = 0",
  ).get();
  return {
    compressedSegments: Number(row?.["n"] ?? 0),
    rawBytes: Number(row?.["raw"] ?? 0),
    storedBytes: Number(row?.["stored"] ?? 0),
  };
}

/**
 * The first copy of an adopted disk, so that history stands without the primary.
 *
 * Content that was there before the first command goes to the journal as `baseline` records and lies beneath
 * everything else in the recovery map. Blocks of zeroes are left out. The copy can be interrupted at any time: it
 * goes on after the last stretch that the map knows of, and hosts are let in only when it is complete.
 *
 * Order for each stretch: records appended, journal synced, map told. Were the map told first, a power cut could leave
 * it pointing at records that are not there.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { blockOf, blocksFor, isZero } from "../base/bytes.ts";
import { pause, type Scheduler } from "../base/turns.ts";
import type { MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import type { JournalWriter } from "../journal/mod.ts";
import type { Primary } from "./primary.ts";

const CHUNK_BYTES = 1 << 20;
/** Bytes between two syncs. */
const STRETCH_BYTES = 64 << 20;

/** What the copy works on. */
export interface BaselineParts {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** The adopted disk. */
  readonly primary: Primary;
  /** Where its content goes. */
  readonly journal: JournalWriter;
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** Time of the records: that of the adoption, in microseconds. */
  readonly timeUs: number;
  /** Told how many bytes are done. */
  readonly onProgress: (doneBytes: number) => void;
  /** Stops the copy early when aborted; it can be taken up again. */
  readonly signal: AbortSignal;
}

/** Copies what is not copied yet; false when it was stopped. */
export async function copyBaseline(parts: BaselineParts): Promise<boolean> {
  const { primary, journal, map } = parts;
  let done = map.getState("baseline_bytes", 0);
  while (done < primary.sizeBytes) {
    const stretchEnd = Math.min(done + STRETCH_BYTES, primary.sizeBytes);
    const extents: MapExtent[] = [];
    while (done < stretchEnd) {
      if (parts.signal.aborted) return false;
      const data = primary.seek(done, "data") ?? primary.sizeBytes;
      done = Math.max(done, Math.min(stretchEnd, blockOf(data) * BLOCK_BYTES));
      if (done < stretchEnd) {
        const length = Math.min(CHUNK_BYTES, stretchEnd - done);
        copyChunk(parts, done, length, extents);
        done += length;
      }
      parts.onProgress(done);
      await pause(parts.scheduler);
    }
    await journal.sync();
    map.transaction(() => {
      map.addBaseline(extents);
      map.setState("baseline_bytes", done);
    });
  }
  return true;
}

function copyChunk(parts: BaselineParts, offset: number, length: number, extents: MapExtent[]): void {
  const bytes = new Uint8Array(blocksFor(length) * BLOCK_BYTES);
  parts.primary.read(offset, bytes.subarray(0, length));
  const blocks = bytes.length / BLOCK_BYTES;
  for (let first = 0; first < blocks;) {
    if (isZero(bytes.subarray(first * BLOCK_BYTES, (first + 1) * BLOCK_BYTES))) {
      first++;
      continue;
    }
    let end = first + 1;
    while (end < blocks && !isZero(bytes.subarray(end * BLOCK_BYTES, (end + 1) * BLOCK_BYTES))) end++;
    const firstBlock = blockOf(offset) + first;
    const start = firstBlock * BLOCK_BYTES;
    const place = parts.journal.append(
      {
        kind: "baseline",
        flags: 0,
        seq: 0,
        timeUs: parts.timeUs,
        offset: start,
        length: Math.min((end - first) * BLOCK_BYTES, parts.primary.sizeBytes - start),
        firstBlock,
        client: 0,
      },
      bytes.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES),
    );
    extents.push({
      seq: 0,
      firstBlock,
      blockCount: end - first,
      segment: place.segment,
      recordOffset: place.offset,
      payloadBlock: 0,
    });
    first = end;
  }
}

/**
 * How far the first copy of an adopted disk had come, told from its records.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import type { MapExtent, RecoveryMap } from "../catalog/recovery_map.ts";
import { extentsOf, type RecordHeader } from "../journal/mod.ts";

/** Gathers what `baseline` records cover. */
export class BaselineCoverage {
  #endBytes = 0;

  /** Takes a record at its place; returns what it adds to the map. A record without a payload stands for zeroes. */
  take(header: RecordHeader, place: { segment: number; offset: number }): MapExtent[] {
    this.#endBytes = Math.max(this.#endBytes, header.offset + header.length);
    return extentsOf(header).map((extent) => ({
      seq: 0,
      firstBlock: extent.firstBlock,
      blockCount: extent.blockCount,
      segment: place.segment,
      recordOffset: place.offset,
      payloadBlock: Math.max(0, extent.payloadBlock),
    }));
  }

  /** Keeps in the map how far the copy had come: the copy goes from the start to the end of the disk. */
  finish(map: RecoveryMap, volume: { sizeBytes: number; complete: boolean }): void {
    const done = Math.floor(this.#endBytes / BLOCK_BYTES) * BLOCK_BYTES;
    map.setState(
      "baseline_bytes",
      volume.complete ? volume.sizeBytes : Math.min(done, volume.sizeBytes - 1),
    );
  }
}

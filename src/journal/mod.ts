/**
 * The segment log: format, writer, reader.
 *
 * @module
 */
export * from "./format.ts";
export {
  COMPRESSED_HEADER_BYTES,
  CompressedSegmentFile,
  encodeCompressedSegment,
  encodeFrame,
  FRAME_BYTES,
  FrameCache,
  isCompressedSegment,
} from "./compressed_segment.ts";
export { type BlockExtent, extentsOf, holeGeometry } from "./extents_of.ts";
export {
  JournalWriter,
  type JournalWriterOptions,
  type NewRecord,
  type RecordPlace,
  type SealedSegment,
} from "./journal_writer.ts";
export {
  type BlockRun,
  isBodyWhole,
  type ScannedRecord,
  type ScanResult,
  SegmentReader,
} from "./segment_reader.ts";
export { ReadWindow } from "./read_window.ts";
export { damagedAsZeroes, readText, type SegmentBytes, walkSegment, type WalkStep } from "./segment_walk.ts";

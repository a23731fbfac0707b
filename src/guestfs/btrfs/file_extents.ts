/**
 * The extents of a file, one behind the other, with what no extent covers told as holes.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u16, u8 } from "../_bytes.ts";
import type { FileTree } from "./file_tree.ts";
import { COMPRESSED_BYTES_MAX, COMPRESSION, EXTENT, EXTENT_TYPE, TYPE } from "./format.ts";
import { amount, BETWEEN } from "./key.ts";

/** A file extent item, checked. */
export interface FileExtent {
  /** Offset in the file, and the number of its bytes. */
  readonly start: number;
  readonly length: number;
  readonly type: "inline" | "regular" | "preallocated";
  /** As in {@linkcode COMPRESSION}. */
  readonly compression: number;
  /** Bytes of the whole extent when not compressed. */
  readonly ramBytes: number;
  /** Logical address, 0 for a hole, and the bytes stored there. */
  readonly bytenr: number;
  readonly storedBytes: number;
  /** Where in the extent that is not compressed the file's part begins. */
  readonly offset: number;
  /** The item. */
  readonly item: Uint8Array;
}

/** A part of a file: within an extent, or in a hole. */
export interface FilePart {
  readonly start: number;
  readonly end: number;
  readonly extent: FileExtent | undefined;
}

/**
 * Reads the file extent item at an offset of a file; one within the inode covers whole sectors of `sectorBytes`. Throws
 * `damaged` and `unsupported`.
 */
export function parseExtent(item: Uint8Array, start: number, sectorBytes: number): FileExtent {
  const fail = (found: string) => damaged(`reading the extent of a file at ${start}`, found);
  if (start >= BETWEEN) throw fail("no file is that long");
  const type = u8(item, EXTENT.type);
  const compression = u8(item, EXTENT.compression);
  const ramBytes = amount(item, EXTENT.ramBytes);
  if (u8(item, EXTENT.encryption) !== 0 || u16(item, EXTENT.otherEncoding) !== 0) {
    throw new VarveError(
      "unsupported",
      `reading the extent of a file at ${start}: it is encrypted or encoded`,
    );
  }
  if (compression > COMPRESSION.zstd) {
    throw new VarveError(
      "unsupported",
      `reading the extent of a file at ${start}: its compression is ${compression}`,
    );
  }
  if (compression !== COMPRESSION.none && ramBytes > COMPRESSED_BYTES_MAX) {
    throw fail(`${ramBytes} bytes are compressed together`);
  }
  if (type === EXTENT_TYPE.inline) {
    if (start !== 0) throw fail("it lies within the inode");
    if (compression === COMPRESSION.none && ramBytes !== item.length - EXTENT.inline) {
      throw fail(`${item.length - EXTENT.inline} bytes within the inode instead of ${ramBytes}`);
    }
    const length = Math.ceil(ramBytes / sectorBytes) * sectorBytes;
    return {
      start,
      length,
      type: "inline",
      compression,
      ramBytes,
      bytenr: 0,
      storedBytes: 0,
      offset: 0,
      item,
    };
  }
  if (type !== EXTENT_TYPE.regular && type !== EXTENT_TYPE.preallocated) throw fail(`type ${type}`);
  const [bytenr, storedBytes] = [amount(item, EXTENT.bytenr), amount(item, EXTENT.storedBytes)];
  const [offset, length] = [amount(item, EXTENT.offset), amount(item, EXTENT.length)];
  if (length === 0) throw fail("it is empty");
  if (bytenr !== 0) {
    const whole = compression === COMPRESSION.none ? storedBytes : ramBytes;
    if (offset + length > whole) throw fail(`${length} bytes from ${offset} on of ${whole}`);
    if (compression !== COMPRESSION.none && storedBytes > COMPRESSED_BYTES_MAX) {
      throw fail(`${storedBytes} bytes of compressed data`);
    }
  }
  const kind = type === EXTENT_TYPE.regular ? "regular" : "preallocated";
  return { start, length, type: kind, compression, ramBytes, bytenr, storedBytes, offset, item };
}

/** The parts of a file from one offset up to another; throws `damaged` where extents overlap. */
export function* fileParts(
  tree: FileTree,
  inode: number,
  { from, to, sectorBytes }: { readonly from: number; readonly to: number; readonly sectorBytes: number },
): Generator<FilePart> {
  let at = from;
  const first = tree.floor(inode, TYPE.extentData, from);
  for (const { offset, data } of tree.range(inode, TYPE.extentData, first?.offset ?? from, to - 1)) {
    const extent = parseExtent(data, offset, sectorBytes);
    const end = extent.start + extent.length;
    if (extent.start > at) yield { start: at, end: extent.start, extent: undefined };
    else if (extent.start < at && offset !== first?.offset) {
      throw damaged("reading the extents of a file", `that at ${offset} begins within another`);
    }
    at = Math.max(at, extent.start);
    if (end <= at) continue;
    yield { start: at, end: Math.min(end, to), extent };
    at = end;
    if (at >= to) return;
  }
  if (at < to) yield { start: at, end: to, extent: undefined };
}

/**
 * The `.xz` container with LZMA2 in it, as `xz-file-format.txt` of XZ Utils tells it.
 *
 * ```text
 * stream   fd "7zXZ" 00, u8 0, u8 check, u32 CRC-32 of the two; blocks; index (from 00 on), footer
 * block    u8 length of the header / 4 - 1, u8 flags, [compressed bytes], [bytes], filters, padding, u32 CRC-32,
 *          data, padding to 4, check
 * LZMA2    chunks: u8 control; 0: the end; 1, 2: stored, u16 bytes - 1; from 0x80 on: LZMA, 5 bits and u16 of bytes - 1,
 *          u16 compressed bytes - 1, [u8 properties]
 * ```
 * The index and the footer are not looked at: the content has been proved by then.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { VarveError } from "../../base/errors.ts";
import { damaged, equalBytes, latin1, slice, u16be, u32, u8 } from "../_bytes.ts";
import { undoBranchFilter } from "./branch_filter.ts";
import { LzmaDecoder } from "./lzma.ts";

const MAGIC = "\xfd7zXZ\0";
const STREAM_HEADER_BYTES = 12;
const FILTER_LZMA2 = 0x21;
/** Bytes of each kind of check that is known. */
const CHECK_BYTES: ReadonlyMap<number, number> = new Map([[0, 0], [1, 4], [4, 8], [10, 32]]);

function fail(found: string): VarveError {
  return damaged("decompressing xz", found);
}

/** Fills `target` from its start and returns how many bytes that were. Throws `damaged` and `unsupported`. */
export function decompressXz(source: Uint8Array, target: Uint8Array): number {
  if (latin1(slice(source, 0, 6)) !== MAGIC) throw fail("its magic number is missing");
  if (crc32(slice(source, 6, 8)) !== u32(source, 8)) throw fail("the checksum of its header does not match");
  const check = u8(source, 7);
  const checkBytes = CHECK_BYTES.get(check);
  if (u8(source, 6) !== 0 || checkBytes === undefined) {
    throw new VarveError("unsupported", `decompressing xz: a check of kind ${check}`);
  }
  let done = 0;
  for (let at = STREAM_HEADER_BYTES; u8(source, at) !== 0;) {
    const headerBytes = (u8(source, at) + 1) * 4;
    const filters = readBlockHeader(slice(source, at, at + headerBytes));
    at += headerBytes;
    const part = target.subarray(done);
    const { consumed, produced } = decodeLzma2(source.subarray(at), part);
    const content = part.subarray(0, produced);
    for (const filter of filters.toReversed()) undoBranchFilter(filter, content);
    at += Math.ceil(consumed / 4) * 4;
    if (!checkHolds(check, content, slice(source, at, at + checkBytes))) {
      throw fail("its checksum does not match");
    }
    at += checkBytes;
    done += produced;
  }
  return done;
}

/** The filters before LZMA2, in the order in which they were applied. */
function readBlockHeader(header: Uint8Array): number[] {
  const end = header.length - 4;
  if (crc32(header.subarray(0, end)) !== u32(header, end)) {
    throw fail("the checksum of a block does not match");
  }
  const flags = u8(header, 1);
  let at = 2;
  const number = () => {
    let value = 0;
    for (let shift = 1, count = 0; count < 7; shift *= 128, count++) {
      const byte = u8(header, at++);
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
    throw fail("a number that is too long");
  };
  if ((flags & 0x40) !== 0) number();
  if ((flags & 0x80) !== 0) number();
  const filters: number[] = [];
  for (let count = flags & 3; count >= 0; count--) {
    const id = number();
    const properties = number();
    if (count === 0 && id !== FILTER_LZMA2) throw fail(`filter ${id} at the end`);
    if (count > 0 && properties !== 0) {
      throw new VarveError("unsupported", `decompressing xz: filter ${id} with properties`);
    }
    at += properties;
    if (count > 0) filters.push(id);
  }
  return filters;
}

function decodeLzma2(source: Uint8Array, target: Uint8Array): { consumed: number; produced: number } {
  const decoder = new LzmaDecoder(target);
  // What has to be reset before the first chunk of LZMA: the window, the properties, the state.
  let need = 3;
  for (let at = 0;;) {
    const control = u8(source, at++);
    if (control === 0) return { consumed: at, produced: decoder.done };
    if (control < 0x80) {
      const length = u16be(source, at) + 1;
      if (control > 2) throw fail(`a chunk of kind ${control}`);
      if (control === 1) decoder.windowStart = decoder.done;
      else if (need === 3) throw fail("its first chunk does not begin a window");
      if (control === 1) need = Math.min(need, 2);
      const content = slice(source, at + 2, at + 2 + length);
      if (decoder.done + length > target.length) throw fail("more content than there should be");
      target.set(content, decoder.done);
      decoder.done += length;
      at += 2 + length;
      continue;
    }
    const length = ((control & 0x1f) << 16) + u16be(source, at) + 1;
    const packed = u16be(source, at + 2) + 1;
    at += 4;
    const reset = (control >> 5) & 3;
    if (reset < need) throw fail("a chunk that begins nothing");
    need = 0;
    if (reset === 3) decoder.windowStart = decoder.done;
    if (reset >= 2) decoder.setProperties(u8(source, at++));
    if (reset >= 1) decoder.resetState();
    decoder.decode(slice(source, at, at + packed), decoder.done + length, false);
    at += packed;
  }
}

/** Checks that are not known (CRC-64) hold: the range coder has come to its end where it had to. */
function checkHolds(check: number, content: Uint8Array, stored: Uint8Array): boolean {
  if (check === 1) return crc32(content) === u32(stored, 0);
  if (check === 10) return equalBytes(createHash("sha256").update(content).digest(), stored);
  return true;
}

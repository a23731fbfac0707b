/**
 * The volume descriptors of ISO 9660 (ECMA-119), and which of the trees of names is shown.
 *
 * ```text
 * sector 16 on, 2048 bytes each: u8 type (1 primary, 2 supplementary, 255 the end), "CD001", u8 version, …
 *   40: char[32] label, 80: u32 blocks, 88: char[32] escape sequences (Joliet: UCS-2), 128: u16 bytes of a block,
 *   156: record of the root directory
 * ```
 * Numbers are stored twice, little-endian first, and that one is read, as Linux does. Names with Rock Ridge outrank those of
 * Joliet, which outrank the plain ones.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, latin1, u16, u32, u8 } from "../_bytes.ts";
import type { ChunkReader } from "../_chunks.ts";
import { rockRidgeSkip } from "./rock_ridge.ts";

/** Where the descriptors begin, and their length. */
export const DESCRIPTORS_OFFSET = 32768;
/** Bytes of a descriptor. */
export const DESCRIPTOR_BYTES = 2048;

/** A volume and the tree of it that is shown. */
export interface IsoVolume {
  readonly chunks: ChunkReader;
  /** Bytes of a logical block, in which places are counted. */
  readonly blockBytes: number;
  readonly blocks: number;
  readonly label: string;
  /** Offset of the root directory in bytes. */
  readonly root: number;
  readonly names: "rock-ridge" | "joliet" | "plain";
  /** Bytes of each record's system use area that come before those of Rock Ridge. */
  readonly skip: number;
}

const DESCRIPTORS_MAX = 100;
const PRIMARY = 1;
const SUPPLEMENTARY = 2;
const END = 255;
const ROOT_RECORD = 156;
const JOLIET_ESCAPES = ["%/@", "%/C", "%/E"];

/** Reads the descriptors. Throws `damaged` and `unsupported`. */
export function readVolume(chunks: ChunkReader): IsoVolume {
  let primary: Uint8Array | undefined;
  let joliet: Uint8Array | undefined;
  for (let index = 0; index < DESCRIPTORS_MAX; index++) {
    const offset = DESCRIPTORS_OFFSET + index * DESCRIPTOR_BYTES;
    if (offset + DESCRIPTOR_BYTES > chunks.device.sizeBytes) break;
    const bytes = chunks.bytes(offset, DESCRIPTOR_BYTES);
    const type = u8(bytes, 0);
    if (type === END || latin1(bytes.subarray(1, 6)) !== "CD001") break;
    if (type === PRIMARY) primary ??= bytes;
    if (type === SUPPLEMENTARY && JOLIET_ESCAPES.includes(latin1(bytes.subarray(88, 91)))) joliet ??= bytes;
  }
  if (primary === undefined) throw damaged("reading the volume descriptors", "there is no primary one");
  const plain = volumeOf(chunks, primary, "plain");
  const skip = rockRidgeSkip(plain);
  if (skip !== undefined) return { ...plain, names: "rock-ridge", skip };
  return joliet === undefined ? plain : volumeOf(chunks, joliet, "joliet");
}

function volumeOf(chunks: ChunkReader, descriptor: Uint8Array, names: "plain" | "joliet"): IsoVolume {
  const blockBytes = u16(descriptor, 128);
  if (![512, 1024, 2048].includes(blockBytes)) {
    throw new VarveError("unsupported", `opening an ISO 9660 file system: blocks of ${blockBytes} bytes`);
  }
  const label = descriptor.subarray(40, 72);
  return {
    chunks,
    blockBytes,
    blocks: u32(descriptor, 80),
    label: new TextDecoder(names === "joliet" ? "utf-16be" : "utf-8").decode(label).replace(/[ \0]+$/, ""),
    root: (u32(descriptor, ROOT_RECORD + 2) + u8(descriptor, ROOT_RECORD + 1)) * blockBytes,
    names,
    skip: 0,
  };
}

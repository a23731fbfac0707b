/**
 * The compressors of SquashFS by their numbers.
 *
 * @module
 */
import { inflateSync, zstdDecompressSync } from "node:zlib";
import { VarveError } from "../../base/errors.ts";
import { damaged } from "../_bytes.ts";
import { decompressLz4 } from "./lz4.ts";
import { decompressLzmaAlone } from "./lzma.ts";
import { decompressLzo } from "./lzo.ts";
import { decompressXz } from "./xz.ts";

/**
 * Decompresses one block to at most `maxBytes`. Throws `damaged` when its content is not right or exceeds them, `unsupported`
 * when it needs what is not here.
 */
export type Decompress = (source: Uint8Array, maxBytes: number) => Uint8Array;

/** The decompressor of a number from the superblock; throws `unsupported`. */
export function decompressorOf(compressor: number): Decompress {
  const found = COMPRESSORS.get(compressor);
  if (found === undefined) {
    throw new VarveError(
      "unsupported",
      `opening a SquashFS file system: compressor ${compressor}, which is not known`,
    );
  }
  return found;
}

const COMPRESSORS: ReadonlyMap<number, Decompress> = new Map([
  [1, byLibrary("zlib", (source, maxOutputLength) => inflateSync(source, { maxOutputLength }))],
  [2, byOwn(decompressLzmaAlone)],
  [3, byOwn(decompressLzo)],
  [4, byOwn(decompressXz)],
  [5, byOwn(decompressLz4)],
  [6, byLibrary("zstd", (source, maxOutputLength) => zstdDecompressSync(source, { maxOutputLength }))],
]);

function byOwn(decompress: (source: Uint8Array, target: Uint8Array) => number): Decompress {
  return (source, maxBytes) => {
    const target = new Uint8Array(maxBytes);
    return target.subarray(0, decompress(source, target));
  };
}

/** The library's complaints are those of its input: it is given nothing else that could be wrong. */
function byLibrary(name: string, decompress: Decompress): Decompress {
  return (source, maxBytes) => {
    try {
      return decompress(source, maxBytes);
    } catch (thrown) {
      throw damaged(`decompressing ${name}`, thrown instanceof Error ? thrown.message : String(thrown));
    }
  };
}

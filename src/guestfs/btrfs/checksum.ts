/**
 * The checksums that a btrfs file system may choose from.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { VarveError } from "../../base/errors.ts";
import { equalBytes } from "../_bytes.ts";
import { crc32c } from "../ext/crc32c.ts";
import { blake2b256 } from "./blake2b.ts";
import { xxhash64 } from "./xxhash64.ts";

/** One checksum: its length, and whether bytes have it. */
export interface Checksum {
  /** Bytes of a checksum. */
  readonly bytes: number;
  /** Whether the checksum of `data` is what `expected` begins with. */
  matches(data: Uint8Array, expected: Uint8Array): boolean;
}

const CRC32C: Checksum = {
  bytes: 4,
  matches(data, expected) {
    const value = ~crc32c(0xffffffff, data);
    return expected[0] === (value & 0xff) && expected[1] === (value >>> 8 & 0xff) &&
      expected[2] === (value >>> 16 & 0xff) && expected[3] === value >>> 24;
  },
};

function digest(bytes: number, compute: (data: Uint8Array) => Uint8Array): Checksum {
  return { bytes, matches: (data, expected) => equalBytes(compute(data), expected.subarray(0, bytes)) };
}

/** In the order of `csum_type`. */
const CHECKSUMS: readonly Checksum[] = [
  CRC32C,
  digest(8, xxhash64),
  digest(32, (data) => createHash("sha256").update(data).digest()),
  digest(32, blake2b256),
];

/** The checksum of a `csum_type`; throws `unsupported` for one that is not known. */
export function checksumOf(type: number): Checksum {
  const found = CHECKSUMS[type];
  if (found === undefined) {
    throw new VarveError("unsupported", `opening a btrfs file system: its checksums are of type ${type}`);
  }
  return found;
}

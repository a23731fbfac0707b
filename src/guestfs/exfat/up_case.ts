/**
 * The table by which exFAT compares names. Source: Microsoft's "exFAT file system specification", section 7.2.
 *
 * ```text
 * u16[]: the capital of each unit from 0 on; 0xffff says that as many units as the next number says are their own capitals
 * ```
 *
 * @module
 */
import { damaged, u16 } from "../_bytes.ts";
import { CaseFolding } from "../fat/name.ts";
import { checksumStep32 } from "./boot_region.ts";

/** A table that is not compressed, with a run of nothing behind it. */
export const UP_CASE_BYTES_MAX = 2 * 65_536 + 4;
const UNITS = 65_536;
const IDENTITY_RUN = 0xffff;

/** Decodes a table. Throws `damaged` when its checksum does not match or it is too long. */
export function parseUpCase(bytes: Uint8Array, checksum: number): CaseFolding {
  let sum = 0;
  for (const byte of bytes) sum = checksumStep32(sum, byte);
  if (sum !== checksum) throw damaged("reading the up-case table", "its checksum does not match");
  const capitals = Uint16Array.from({ length: UNITS }, (_, unit) => unit);
  let unit = 0;
  for (let at = 0; at + 2 <= bytes.length && unit < UNITS; at += 2) {
    const value = u16(bytes, at);
    if (value === IDENTITY_RUN && at + 4 <= bytes.length) {
      at += 2;
      unit += u16(bytes, at);
    } else capitals[unit++] = value;
  }
  if (unit > UNITS) throw damaged("reading the up-case table", `it is about ${unit} units`);
  return new CaseFolding(capitals);
}

/**
 * The update sequence: how NTFS finds out that a record was written only in part.
 *
 * Before a record is written, the last two bytes of each 512 are moved to an array in its header, and a number that changes with each
 * write takes their place. Where that number is missing, those 512 bytes are from another write than the header.
 *
 * @module
 */
import { damaged, latin1, u16 } from "../_bytes.ts";
import { FIXUP_STRIDE_BYTES } from "./format.ts";

/**
 * Checks magic and update sequence of a record and puts the true bytes back, in place. Throws `damaged` when they don't fit; `what`
 * names the record in the message.
 */
export function applyFixups(bytes: Uint8Array, magic: string, what: string): void {
  const found = latin1(bytes.subarray(0, 4));
  if (found !== magic) {
    const shown = /^[ -~]{4}$/.test(found) ? found : bytes.subarray(0, 4).toHex();
    throw damaged(`reading ${what}`, `its magic is ${shown}, not ${magic}`);
  }
  const at = u16(bytes, 4);
  const strides = bytes.length / FIXUP_STRIDE_BYTES;
  if (
    u16(bytes, 6) !== strides + 1 || at % 2 !== 0 || at < 8 || at + 2 * (strides + 1) > FIXUP_STRIDE_BYTES - 2
  ) {
    throw damaged(`reading ${what}`, `its update sequence has ${u16(bytes, 6)} numbers at ${at}`);
  }
  const expected = u16(bytes, at);
  for (let stride = 0; stride < strides; stride++) {
    const end = (stride + 1) * FIXUP_STRIDE_BYTES - 2;
    if (u16(bytes, end) !== expected) {
      throw damaged(`reading ${what}`, `its part ${stride} is from another write (update sequence)`);
    }
    bytes.copyWithin(end, at + 2 + 2 * stride, at + 4 + 2 * stride);
  }
}

/** Checksums of exFAT for tests that change images, written apart from the reader's. */
import type { Patch } from "../fat/testing.ts";

/** Makes the checksum of the boot region match, for sectors of 512 bytes. */
export function sealBoot(image: Uint8Array, patch: Patch): void {
  let sum = 0n;
  for (let at = 0; at < 11 * 512; at++) {
    if (at === 106 || at === 107 || at === 112) continue;
    sum = ((sum >> 1n) | ((sum & 1n) << 31n)) + BigInt(image[at] ?? 0) & 0xffffffffn;
  }
  for (let at = 11 * 512; at < 12 * 512; at += 4) patch.writeNumber(at, Number(sum));
}

/** Makes the checksum of a file's entries match, where they lie one behind the other. */
export function sealSet(image: Uint8Array, patch: Patch, offset: number): void {
  const end = offset + 32 * (1 + (image[offset + 1] ?? 0));
  let sum = 0;
  for (let at = offset; at < end; at++) {
    if (at === offset + 2 || at === offset + 3) continue;
    sum = ((sum % 2) * 0x8000 + Math.floor(sum / 2) + (image[at] ?? 0)) % 0x10000;
  }
  patch.writeNumber(offset + 2, sum, 2);
}

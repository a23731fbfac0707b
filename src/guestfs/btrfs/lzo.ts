/**
 * LZO1X, the compression whose stream the kernel documents in "LZO stream format as understood by Linux' LZO decompressor".
 *
 * @module
 */
import { damaged } from "../_bytes.ts";

/** Up to so many bytes a loop copies faster than a call. */
const COPY_MIN = 24;

/** Decompresses one block into `target`; returns the number of bytes. Throws `damaged` for anything that does not fit. */
export function decompressLzo(source: Uint8Array, target: Uint8Array): number {
  let from = 0;
  let to = 0;
  /** What the last instruction copied literally: 0 to 3 bytes, or 4 for more; it decides what a small code means. */
  let state = 0;

  const fail = (found: string) => damaged("decompressing LZO data", found);
  const byte = (): number => {
    const value = source[from++];
    if (value === undefined) throw fail("they end within an instruction");
    return value;
  };
  /** A length that does not fit its field: zero bytes count 255 each. */
  const long = (base: number): number => {
    let length = base;
    let value = byte();
    for (; value === 0; value = byte()) length += 255;
    return length + value;
  };
  const literals = (count: number): void => {
    if (from + count > source.length || to + count > target.length) {
      throw fail(`${count} literal bytes do not fit`);
    }
    if (count > COPY_MIN) {
      target.set(source.subarray(from, from + count), to);
      from += count;
      to += count;
    } else {
      for (const end = to + count; to < end; to++) target[to] = source[from++] as number;
    }
  };
  const match = (distance: number, count: number): void => {
    if (distance > to || to + count > target.length) {
      throw fail(`a match of ${count} bytes, ${distance} before ${to}, does not fit`);
    }
    if (distance >= count && count > COPY_MIN) {
      target.copyWithin(to, to - distance, to - distance + count);
      to += count;
    } else {
      // The match may overlap what it makes.
      for (const end = to + count; to < end; to++) target[to] = target[to - distance] as number;
    }
  };

  const first = source[0] ?? 0;
  if (first > 17) {
    from = 1;
    literals(first - 17);
    state = Math.min(first - 17, 4);
  }
  for (;;) {
    const code = byte();
    let following: number;
    if (code < 16 && state === 0) {
      literals(3 + (code === 0 ? long(15) : code));
      state = 4;
      continue;
    }
    if (code >= 64) {
      following = code & 3;
      match((byte() << 3) + (code >>> 2 & 7) + 1, (code >>> 5) + 1);
    } else if (code >= 32) {
      const length = 2 + ((code & 31) === 0 ? long(31) : code & 31);
      const low = byte();
      following = low & 3;
      match((byte() << 6) + (low >>> 2) + 1, length);
    } else if (code >= 16) {
      const length = 2 + ((code & 7) === 0 ? long(7) : code & 7);
      const low = byte();
      const distance = ((code & 8) << 11) + (byte() << 6) + (low >>> 2);
      if (distance === 0) {
        if (length !== 3) throw fail("their end is malformed");
        return to;
      }
      following = low & 3;
      match(distance + 0x4000, length);
    } else {
      following = code & 3;
      const distance = (byte() << 2) + (code >>> 2);
      if (state === 4) match(distance + 0x801, 3);
      else match(distance + 1, 2);
    }
    literals(following);
    state = following;
  }
}

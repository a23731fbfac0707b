/**
 * Undoes the filters that made the targets of branches in machine code absolute, so that it compresses better.
 * Source: `xz-file-format.txt` of XZ Utils for the numbers, and each processor's encoding of its branches.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";

/** Undoes a filter in place; the content begins at address 0. Throws `unsupported` for one that is not known. */
export function undoBranchFilter(filter: number, content: Uint8Array): void {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const undo = FILTERS.get(filter);
  if (undo === undefined) {
    throw new VarveError("unsupported", `decompressing xz: filter 0x${filter.toString(16)}`);
  }
  undo(view);
}

const FILTERS: ReadonlyMap<number, (view: DataView) => void> = new Map([
  [0x04, undoX86],
  [0x05, undoPowerPc],
  [0x07, undoArm],
  [0x08, undoArmThumb],
  [0x09, undoSparc],
]);

/**
 * CALL and JMP (e8, e9) with a 32-bit distance whose highest byte is 00 or ff. What looks like one, but has others close
 * before it in whose distance it may lie, may have been left alone: `near` has a bit for each of the last three bytes that
 * looked like one.
 */
function undoX86(view: DataView): void {
  let near = 0;
  let previous = -1;
  for (let at = 0; at + 5 <= view.byteLength; at++) {
    if ((view.getUint8(at) & 0xfe) !== 0xe8) continue;
    const gap = at - previous;
    previous = at;
    near = gap > 3 ? 0 : (near << (gap - 1)) & 7;
    const shared = NEAR_BYTES[near] ?? 0;
    const skipped = near !== 0 && (!NEAR_ALLOWED.includes(near) || isTop(view.getUint8(at + 4 - shared)));
    if (skipped || !isTop(view.getUint8(at + 4))) {
      near = (near << 1) | 1;
      continue;
    }
    let distance = (view.getUint32(at + 1, true) - (at + 5)) >>> 0;
    if (near !== 0 && isTop((distance >>> (24 - shared * 8)) & 0xff)) {
      distance = ((distance ^ (2 ** (32 - shared * 8) - 1)) - (at + 5)) >>> 0;
    }
    const sign = (distance & 0x01000000) !== 0 ? 0xfe000000 : 0;
    view.setUint32(at + 1, ((distance & 0x01ffffff) | sign) >>> 0, true);
    at += 4;
  }
}

/** How many bytes of a distance the nearest of those before reaches into, and which of them may be undone at all. */
const NEAR_BYTES: readonly number[] = [0, 1, 2, 2, 3, 3, 3, 3];
const NEAR_ALLOWED: readonly number[] = [1, 2, 4];

function isTop(byte: number): boolean {
  return byte === 0 || byte === 0xff;
}

function undoPowerPc(view: DataView): void {
  for (let at = 0; at + 4 <= view.byteLength; at += 4) {
    const word = view.getUint32(at);
    if (((word & 0xfc000003) >>> 0) !== 0x48000001) continue;
    view.setUint32(at, (0x48000001 | ((word - at) & 0x03fffffc)) >>> 0);
  }
}

function undoArm(view: DataView): void {
  for (let at = 0; at + 4 <= view.byteLength; at += 4) {
    const word = view.getUint32(at, true);
    if (word >>> 24 !== 0xeb) continue;
    view.setUint32(at, (0xeb000000 | (((word & 0xffffff) - ((at + 8) >>> 2)) & 0xffffff)) >>> 0, true);
  }
}

function undoArmThumb(view: DataView): void {
  for (let at = 0; at + 4 <= view.byteLength; at += 2) {
    const [high, low] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
    if ((high & 0xf800) !== 0xf000 || (low & 0xf800) !== 0xf800) continue;
    const distance = ((((high & 0x7ff) << 11) | (low & 0x7ff)) << 1) - (at + 4);
    view.setUint16(at, 0xf000 | ((distance >>> 12) & 0x7ff), true);
    view.setUint16(at + 2, 0xf800 | ((distance >>> 1) & 0x7ff), true);
    at += 2;
  }
}

function undoSparc(view: DataView): void {
  for (let at = 0; at + 4 <= view.byteLength; at += 4) {
    const word = view.getUint32(at);
    const top = word >>> 22;
    if (top !== 0x100 && top !== 0x1ff) continue;
    const distance = ((word << 2) - at) >>> 2;
    const sign = (distance & 0x400000) !== 0 ? 0x3fc00000 : 0;
    view.setUint32(at, (sign | 0x40000000 | (distance & 0x3fffff)) >>> 0);
  }
}

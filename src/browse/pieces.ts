/**
 * From bytes of a partition to bytes of its disk.
 *
 * @module
 */
import type { BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import type { DiskPiece } from "../guestfs/guest.ts";

/** Fills `target` from `offset` of what the pieces make up. Throws `damaged` when that lies outside them. */
export function readPieces(
  device: BlockDevice,
  pieces: readonly DiskPiece[],
  offset: number,
  target: Uint8Array,
): void {
  let start = 0;
  let done = 0;
  for (const piece of pieces) {
    const within = offset + done - start;
    start += piece.length;
    if (within < 0 || within >= piece.length) continue;
    const part = target.subarray(done, done + piece.length - within);
    device.read(piece.offset + within, part);
    done += part.length;
    if (done === target.length) return;
  }
  if (done === target.length) return;
  throw new VarveError(
    "damaged",
    `read a guest's file: ${target.length} bytes at ${offset} of a partition of ${start} bytes`,
  );
}

/**
 * Giving a live volume another size, while hosts use it.
 *
 * A size holds from a sequence on: moments before have the size that they had. The order of steps, and what breaks if
 * two are swapped:
 *
 * 1. Growing: the primary is made large enough, durably. Were it later, a start that finds the text of step 4 could find
 *    a primary that is too short for the volume.
 * 2. Growing: what the primary holds beyond the old end is captured, block by block, holes as zeroes; no moment shows it
 *    yet. A file of Varve's own has a hole there; a disk that was larger than the volume keeps what is on it.
 *    Left out, history would take for zeroes what the live disk shows, or show what the volume held there before it was
 *    shrunk. It is drained before step 4, as long as the primary leaves out what is beyond the old end.
 * 3. In one turn with step 4: the block that the old end cuts is captured with what follows in it, because until now it
 *    was padded with zeroes; then a flush, so that the moment before has a name. A command between these and step 4
 *    would be captured for the old end.
 * 4. A text `resized` is appended, and from here on commands are taken for the new size: they lie behind the text, so
 *    whatever survives a power cut was captured for the size that it is read with. Were the size changed first, a command
 *    could survive without it.
 * 5. Shrinking, in the same turn: a trim of what lies beyond the new end, so that its space comes back. It lies behind
 *    the text, so that a storage that is full for it does not empty the disk without shrinking it. Nothing depends on it.
 * 6. In the same turn, a flush: the first moment of the new size.
 * 7. The text is durable; then the map knows the size, durably. No batch is indexed meanwhile: a position behind the text
 *    that was saved before would hide it from the next start.
 * 8. The catalogue knows it. Were it earlier, a power cut could leave a size there that the journal has never heard of.
 * 9. Shrinking: when all is durable in the primary, a file of Varve's own is cut. Were it before step 7, the start after
 *    a power cut could find the primary too short.
 *
 * A crash before the text is durable leaves the old size, and perhaps records beyond its end, which the next growing
 * covers by step 2. A crash after it is completed by the next start, which meets the text.
 *
 * @module
 */
import { BLOCK_BYTES } from "../base/block_device.ts";
import { blockOf, blocksFor, isZero } from "../base/bytes.ts";
import { VarveError } from "../base/errors.ts";
import { pause, type Scheduler } from "../base/turns.ts";
import { foldLog } from "../catalog/database.ts";
import type { RecoveryMap } from "../catalog/recovery_map.ts";
import type { ScanPosition } from "./indexer.ts";
import type { JournalText } from "./journal_text.ts";
import type { Primary } from "./primary.ts";
import type { Told } from "./told.ts";
import { isNoSpace } from "./wall.ts";

/** Bytes looked at, and captured at most, in one step. */
const PIECE_BYTES = 1 << 20;

/** What a resize works on. */
export interface ResizeParts {
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** The live bytes. */
  readonly primary: Primary;
  /** The recovery map. */
  readonly map: RecoveryMap;
  /** What the texts tell. */
  readonly told: Told;
}

/** What a resize asks of the live device. */
export interface ResizeHost {
  /** Size in bytes. */
  sizeBytes(): number;
  /** Takes commands for another size from now on. */
  setSize(sizeBytes: number): void;
  /** Newest sequence. */
  lastSeq(): number;
  /** Throws while the size cannot be changed. */
  check(): void;
  /** A whole block as it is now, zeroes beyond the end. */
  readBlock(block: number): Uint8Array;
  /** Captures whole blocks from `firstBlock` on as a write of a range by Varve itself. */
  captureBlocks(range: { offset: number; length: number }, firstBlock: number, payload: Uint8Array): void;
  /** Captures a trim or zeroing by Varve itself, for a volume that ends where the range does. */
  captureHole(kind: "trim" | "zero", offset: number, length: number): void;
  /** Captures a flush by Varve itself. */
  captureFlush(): void;
  /** Appends a text and tells the position before it. */
  appendText(text: string): ScanPosition;
  /** Resolves when a text is durable; the function it gives is called when the catalogue has what it says. */
  makeTextDurable(before: ScanPosition): Promise<() => void>;
  /** Resolves when everything captured is durable in the journal and in the primary. */
  drain(): Promise<void>;
  /** Resolves when the device takes more; `undefined` when it does already. */
  pressure(): Promise<void> | undefined;
  /** Runs work on the recovery map when no batch is being indexed. */
  exclusively<T>(work: () => Promise<T>): Promise<T>;
}

/** What is left to do when the journal and the map have a new size. */
export interface ResizeEnd {
  /** To be called when the catalogue has it too. */
  told(): void;
  /** Gives back the space beyond the end of a primary that Varve made. */
  finish(): Promise<void>;
}

/** Takes steps 1 to 7. Calls must not overlap. Throws what `host.check` throws, `no-space`, `io`; then nothing has changed. */
export async function resize(sizeBytes: number, parts: ResizeParts, host: ResizeHost): Promise<ResizeEnd> {
  const { primary, map, told, scheduler } = parts;
  host.check();
  if (sizeBytes > host.sizeBytes()) {
    await primary.extend(host.sizeBytes(), sizeBytes);
    await captureNewPart(sizeBytes, parts, host);
  }
  const tell = await host.exclusively(async () => {
    const { before, text } = switchSize(sizeBytes, parts, host);
    const tell = await host.makeTextDurable(before);
    told.take(text);
    map.transaction(() => told.save());
    await foldLog(map.database, { scheduler, signal: new AbortController().signal });
    return tell;
  });
  return {
    told: tell,
    async finish() {
      await host.drain();
      primary.setSize(sizeBytes);
      await primary.cut();
    },
  };
}

/** Steps 3 to 6, in one turn. */
function switchSize(
  sizeBytes: number,
  { primary }: ResizeParts,
  host: ResizeHost,
): { before: ScanPosition; text: JournalText } {
  host.check();
  const oldBytes = host.sizeBytes();
  if (sizeBytes > oldBytes) captureCutBlock(oldBytes, sizeBytes, primary, host);
  host.captureFlush();
  const text = { type: "resized", fromSeq: host.lastSeq() + 1, sizeBytes } satisfies JournalText;
  const before = host.appendText(JSON.stringify(text));
  host.setSize(sizeBytes);
  // What was captured for the old size may wait to be applied, and the trim of what lies beyond the new end.
  primary.setSize(Math.max(oldBytes, sizeBytes));
  try {
    if (sizeBytes < oldBytes) host.captureHole("trim", sizeBytes, oldBytes - sizeBytes);
    host.captureFlush();
  } catch (thrown) {
    // The text holds all the same: the next command is the first moment of the new size.
    if (!isNoSpace(thrown)) throw thrown;
  }
  return { before, text };
}

function captureCutBlock(oldBytes: number, newBytes: number, primary: Primary, host: ResizeHost): void {
  if (oldBytes % BLOCK_BYTES === 0) return;
  const block = blockOf(oldBytes);
  const end = Math.min(newBytes, (block + 1) * BLOCK_BYTES);
  const bytes = host.readBlock(block);
  primary.read(oldBytes, bytes.subarray(oldBytes - block * BLOCK_BYTES, end - block * BLOCK_BYTES));
  host.captureBlocks({ offset: oldBytes, length: end - oldBytes }, block, bytes);
}

/** Step 2: the blocks that lie wholly beyond the old end. */
async function captureNewPart(
  newBytes: number,
  { primary, scheduler }: ResizeParts,
  host: ResizeHost,
): Promise<void> {
  const start = blocksFor(host.sizeBytes()) * BLOCK_BYTES;
  let zeroFrom = start;
  for (let at = start; at < newBytes;) {
    host.check();
    const data = primary.seek(at, "data") ?? newBytes;
    at = Math.min(newBytes, Math.max(at, blockOf(data) * BLOCK_BYTES));
    const length = Math.min(PIECE_BYTES, newBytes - at);
    const bytes = new Uint8Array(blocksFor(length) * BLOCK_BYTES);
    if (length > 0) primary.read(at, bytes.subarray(0, length));
    if (!isZero(bytes)) {
      if (at > zeroFrom) host.captureHole("zero", zeroFrom, at - zeroFrom);
      host.captureBlocks({ offset: at, length }, blockOf(at), bytes);
      zeroFrom = at + length;
    }
    at += length;
    await (host.pressure() ?? pause(scheduler));
  }
  if (newBytes > zeroFrom) host.captureHole("zero", zeroFrom, newBytes - zeroFrom);
  await host.drain();
}

/** The error for a size that cannot be changed while the history has a gap. */
export function gapInTheWay(): VarveError {
  return new VarveError("conflict", "resize: the volume is in a gap of its history, its storage is full", {
    hint: "Make space for the history, and resize when varve volume show reports the capture as running.",
  });
}

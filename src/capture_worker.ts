/**
 * A Worker that does the long work of capture with files of its own: brings what the journal has to primaries, or to
 * recovery maps. Orders of all volumes come here, one after the other.
 *
 * @module
 */
import path from "node:path";
import type { WorkerAnswer } from "./asked_worker.ts";
import { BLOCK_BYTES } from "./base/block_device.ts";
import { VarveError } from "./base/errors.ts";
import { RecoveryMap } from "./catalog/recovery_map.ts";
import { type DiskFile, FileDisk } from "./disk/mod.ts";
import { ReadWindow, SegmentReader } from "./journal/mod.ts";
import { VOLUME_FILES } from "./timeline/past.ts";
import { applyExtents, type CapturePlace, type IndexOrder, indexOrder } from "./volume/capture_hands.ts";
import { EXTENT_ROW, NumberRows } from "./volume/number_rows.ts";
import { Primary } from "./volume/primary.ts";

/** What the Worker is told; `place.directory` names the volume. */
export type CaptureRequest =
  & { readonly id: number; readonly place: CapturePlace }
  & (
    | { readonly kind: "apply"; readonly extents: Float64Array; readonly sizeBytes: number }
    | { readonly kind: "index"; readonly order: IndexOrder }
    | { readonly kind: "close" }
  );

/** Bytes of the journal read at once: records of small writes lie one behind the other. */
const READ_AHEAD_BYTES = 1 << 20;

const scope = self as unknown as {
  onmessage: (event: MessageEvent<CaptureRequest>) => void;
  postMessage(message: WorkerAnswer<void>): void;
};

const disk = new FileDisk();
/** Shows nothing of an order before: each opens files of its own. */
const window = new ReadWindow(READ_AHEAD_BYTES);
const primaries = new Map<string, DiskFile>();
const maps = new Map<string, RecoveryMap>();

function apply({ directory, primaryPath }: CapturePlace, extents: Float64Array, sizeBytes: number): void {
  let file = primaries.get(directory);
  if (file === undefined) primaries.set(directory, file = disk.open(primaryPath, { mode: "write" }));
  // Opened for one order: what was read ahead for another may since have been written, segments deleted or compressed.
  const segments = new SegmentReader(disk, path.join(directory, VOLUME_FILES.segments), {
    window,
  });
  try {
    finish(applyExtents(extents, new Primary(file, sizeBytes), segments));
    forgetJournal(extents, segments);
  } finally {
    segments.close();
  }
}

/**
 * The journal is seldom read again. Its pages go back to the kernel at once, which writes the next ones to the same
 * memory, instead of taking it from what hosts read.
 */
function forgetJournal(extents: Float64Array, segments: SegmentReader): void {
  const ranges = new Map<number, { start: number; end: number }>();
  for (const { segment, recordOffset, payloadBlock, blockCount } of NumberRows.of(EXTENT_ROW, extents)) {
    if (segment === 0) continue;
    const end = recordOffset + (payloadBlock + blockCount) * BLOCK_BYTES;
    const range = ranges.get(segment);
    if (range === undefined) ranges.set(segment, { start: recordOffset, end });
    else range.end = Math.max(range.end, end);
  }
  for (const [segment, { start, end }] of ranges) segments.file(segment).forgetCached(start, end - start);
}

function index({ directory }: CapturePlace, order: IndexOrder): void {
  let map = maps.get(directory);
  if (map === undefined) {
    maps.set(directory, map = new RecoveryMap(path.join(directory, VOLUME_FILES.map), { disk }));
  }
  finish(indexOrder(order, map));
}

function close({ directory }: CapturePlace): void {
  primaries.get(directory)?.close();
  primaries.delete(directory);
  maps.get(directory)?.close();
  maps.delete(directory);
}

/** Nobody waits for a turn here. */
function finish(work: Generator<void>): void {
  while (!work.next().done);
}

function carryOut(request: CaptureRequest): void {
  switch (request.kind) {
    case "apply":
      return apply(request.place, request.extents, request.sizeBytes);
    case "index":
      return index(request.place, request.order);
    case "close":
      return close(request.place);
  }
}

scope.onmessage = ({ data: request }) => {
  try {
    carryOut(request);
    scope.postMessage({ id: request.id, done: undefined });
  } catch (thrown) {
    const error = VarveError.from(thrown, `${request.kind} in ${request.place.directory}`).toMessage();
    scope.postMessage({ id: request.id, error });
  }
};

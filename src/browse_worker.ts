/**
 * A Worker that reads files of the past for the API, so that parsing a guest's file system never delays capture.
 *
 * @module
 */
import type { WorkerAnswer } from "./asked_worker.ts";
import { VarveError } from "./base/errors.ts";
import type { FileInfo } from "./engine.ts";
import { type FoundFile, PastFiles } from "./timeline/past_files.ts";
import { openPastView, type PastPlace } from "./timeline/past.ts";
import { openGuestDisk } from "./guestfs/mod.ts";

/** What the Worker is asked. */
export interface BrowseRequest {
  /** Number of the request; the answer repeats it. */
  id: number;
  /** Where the history is. */
  place: PastPlace;
  /** The moment. */
  seq: number;
  /** Path from the root of the volume. */
  path: string;
  /** `list` tells about the path and what is in it; `read` returns bytes of a file. */
  operation: { kind: "list" } | { kind: "read"; offset: number; length: number };
}

/** What was found. */
export interface BrowseResult {
  /** Path from the root of the volume, normalised. */
  path: string;
  /** The file itself. */
  file: FileInfo;
  /** What is in a directory. */
  entries?: FileInfo[];
  /** What was read. */
  bytes?: Uint8Array;
}

/** Moments kept open at most. */
const OPEN_MAX = 8;

interface OpenMoment {
  readonly files: PastFiles;
  close(): void;
}

const scope = self as unknown as {
  onmessage: (event: MessageEvent<BrowseRequest>) => void;
  postMessage(message: WorkerAnswer<BrowseResult>, transfer: Transferable[]): void;
};
const open = new Map<string, OpenMoment>();

function openMoment(place: PastPlace, seq: number): PastFiles {
  const key = `${place.directory}@${seq}`;
  let moment = open.get(key);
  if (moment === undefined) {
    const view = openPastView(place, seq);
    try {
      moment = { files: new PastFiles(openGuestDisk(view.device)), close: view.close };
    } catch (thrown) {
      view.close();
      throw thrown;
    }
  } else open.delete(key);
  open.set(key, moment);
  for (const [oldest, idle] of open) {
    if (open.size <= OPEN_MAX) break;
    open.delete(oldest);
    idle.close();
  }
  return moment.files;
}

function answer(request: BrowseRequest): BrowseResult {
  const files = openMoment(request.place, request.seq);
  const { operation } = request;
  if (operation.kind === "list") {
    const found: FoundFile = files.find(request.path, { follow: request.path.endsWith("/") });
    const { file } = found;
    return {
      path: file.path,
      file,
      ...(file.type === "directory" ? { entries: files.entries(found) } : {}),
    };
  }
  const found = files.find(request.path, { follow: true });
  const bytes = files.read(found, operation.offset, operation.length);
  return { path: found.file.path, file: found.file, bytes };
}

scope.onmessage = ({ data: request }) => {
  try {
    const done = answer(request);
    scope.postMessage(
      { id: request.id, done },
      done.bytes === undefined ? [] : [done.bytes.buffer as ArrayBuffer],
    );
  } catch (thrown) {
    const error = VarveError.from(thrown, `read ${request.path} in the past`);
    scope.postMessage({ id: request.id, error: error.toMessage() }, []);
  }
};

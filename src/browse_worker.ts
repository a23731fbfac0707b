/**
 * A Worker that reads files of the past for the API, so that parsing a guest's file system never delays capture.
 *
 * @module
 */
import type { WorkerAnswer } from "./asked_worker.ts";
import { VarveError } from "./base/errors.ts";
import type { FileInfo } from "./engine.ts";
import { type OpenedMoment, PastBrowser } from "./browse/past_browser.ts";
import { type FoundFile, PastFiles } from "./browse/past_files.ts";
import type { PastPlace } from "./timeline/past.ts";

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

const scope = self as unknown as {
  onmessage: (event: MessageEvent<BrowseRequest>) => void;
  postMessage(message: WorkerAnswer<BrowseResult>, transfer: Transferable[]): void;
};
const browser = new PastBrowser({ sandboxes: 1 });
const open = new Map<string, OpenedMoment>();

/** Moments under way are not closed, so there may be more than {@linkcode OPEN_MAX} for a while. */
const busy = new Map<OpenedMoment, number>();

function momentOf(place: PastPlace, seq: number): OpenedMoment {
  const key = `${place.directory}@${seq}`;
  const moment = open.get(key) ?? browser.open(place, seq);
  open.delete(key);
  open.set(key, moment);
  return moment;
}

function closeIdle(): void {
  for (const [oldest, moment] of open) {
    if (open.size <= OPEN_MAX) break;
    if (busy.has(moment)) continue;
    open.delete(oldest);
    moment.close();
  }
}

async function use<T>(moment: OpenedMoment, work: (files: PastFiles) => Promise<T>): Promise<T> {
  busy.set(moment, (busy.get(moment) ?? 0) + 1);
  try {
    return await work(new PastFiles(await moment.disk()));
  } finally {
    const users = (busy.get(moment) ?? 1) - 1;
    if (users > 0) busy.set(moment, users);
    else busy.delete(moment);
    closeIdle();
  }
}

function answer(request: BrowseRequest): Promise<BrowseResult> {
  return use(momentOf(request.place, request.seq), async (files) => {
    const { operation } = request;
    if (operation.kind === "list") {
      const found: FoundFile = await files.find(request.path, { follow: request.path.endsWith("/") });
      const { file } = found;
      return {
        path: file.path,
        file,
        ...(file.type === "directory" ? { entries: await files.entries(found) } : {}),
      };
    }
    const found = await files.find(request.path, { follow: true });
    const bytes = await files.read(found, operation.offset, operation.length);
    return { path: found.file.path, file: found.file, bytes };
  });
}

scope.onmessage = async ({ data: request }) => {
  try {
    const done = await answer(request);
    scope.postMessage(
      { id: request.id, done },
      done.bytes === undefined ? [] : [done.bytes.buffer as ArrayBuffer],
    );
  } catch (thrown) {
    const error = VarveError.from(thrown, `read ${request.path} in the past`);
    scope.postMessage({ id: request.id, error: error.toMessage() }, []);
  }
};

/**
 * A Worker that looks into the past for the API: files of a moment, and what a whole history says of them. What guests' disks make of
 * it is left to a sandbox.
 *
 * @module
 */
import type { WorkerAnswer } from "./asked_worker.ts";
import { VarveError } from "./base/errors.ts";
import { HeldValues } from "./base/held_values.ts";
import type { FileChange } from "./browse/changed_files.ts";
import { deletedFiles, type HistoryEntry } from "./browse/deleted_files.ts";
import type { KernelReading } from "./browse/kernel_reading.ts";
import { type OpenedMoment, PastBrowser } from "./browse/past_browser.ts";
import { PastFiles } from "./browse/past_files.ts";
import { toldChanges, toldDeleted, toldVersions } from "./browse/told.ts";
import { fileVersions } from "./browse/versions.ts";
import type { HistoryPlace, VolumeHistory } from "./browse/volume_history.ts";
import type { DeletedFiles, FileChanges, FileInfo, FileVersionList } from "./engine.ts";
import type { PastPlace } from "./timeline/past.ts";

/** A file or directory of one moment. */
export interface BrowsedFile {
  /** Path from the root of the volume, normalised. */
  readonly path: string;
  /** The file itself. */
  readonly file: FileInfo;
  /** What is in a directory. */
  readonly entries?: FileInfo[];
}

/** Everything that the Worker is asked, by name. */
export interface BrowseCalls {
  /** About a path, and what is in it. */
  list: { takes: { place: PastPlace; seq: number; path: string }; answer: BrowsedFile };
  /** Bytes of a file. */
  read: {
    takes: { place: PastPlace; seq: number; path: string; offset: number; length: number };
    answer: { file: FileInfo; bytes: Uint8Array<ArrayBuffer> };
  };
  /** Every version of a file. */
  versions: {
    takes: { history: HistoryPlace; path: string; fromSeq?: number; toSeq?: number; limit: number };
    answer: FileVersionList;
  };
  /** What a directory held before a moment. */
  deleted: {
    takes: { history: HistoryPlace; path: string; seq: number; limit: number };
    answer: Pick<DeletedFiles, "path" | "files" | "truncated">;
  };
  /** Files that differ between two moments. */
  changes: {
    takes: { history: HistoryPlace; path?: string; fromSeq: number; toSeq: number; limit: number };
    answer: Pick<FileChanges, "changes" | "unreadable" | "truncated">;
  };
}

/** Name of a question. */
export type BrowseCallName = keyof BrowseCalls;

/** A question of one kind. */
export type BrowseQuestion<Name extends BrowseCallName> =
  & { readonly call: Name }
  & BrowseCalls[Name]["takes"];

/** What the Worker is sent: a question with a number that the answer repeats. */
export type BrowseRequest =
  & { readonly id: number }
  & { [Name in BrowseCallName]: BrowseQuestion<Name> }[BrowseCallName];

/** What it answers to any of them. */
export type BrowseAnswer = BrowseCalls[BrowseCallName]["answer"];

/** Versions of a directory that are looked at for what it held before. */
const DIRECTORY_VERSIONS_MAX = 500;
/** Moments kept open at most. */
const OPEN_MAX = 8;

const scope = self as unknown as {
  onmessage: (event: MessageEvent<BrowseRequest>) => void;
  postMessage(message: WorkerAnswer<BrowseAnswer>, transfer: Transferable[]): void;
};
const kernelUrl = new URL(import.meta.url).searchParams.get("kernel");
// This room cannot know who asks the kernel, so it is told where that is. What is asked meanwhile waits.
const kernel = kernelUrl === null
  ? undefined
  : (await import(kernelUrl) as { makeKernelReading(): KernelReading }).makeKernelReading();
const browser = new PastBrowser({ sandboxes: 1, ...(kernel === undefined ? {} : { kernel }) });
const open = new HeldValues<OpenedMoment>(OPEN_MAX);

function withFiles<T>(place: PastPlace, seq: number, work: (files: PastFiles) => Promise<T>): Promise<T> {
  const key = `${place.directory}@${seq}`;
  const use = () => open.use(key, async (moment) => await work(new PastFiles(await moment.disk())))?.result;
  const used = use();
  if (used !== undefined) return Promise.resolve(used);
  open.add(key, browser.open(place, seq));
  return Promise.resolve(use() as Promise<T>);
}

function answer(request: BrowseRequest): Promise<BrowseAnswer> {
  switch (request.call) {
    case "list":
      return withFiles(request.place, request.seq, async (files): Promise<BrowsedFile> => {
        const found = await files.find(request.path, { follow: request.path.endsWith("/") });
        const { file } = found;
        const entries = file.type === "directory" ? { entries: await files.entries(found) } : {};
        return { path: file.path, file, ...entries };
      });
    case "read":
      return withFiles(request.place, request.seq, async (files) => {
        const found = await files.find(request.path, { follow: true });
        const bytes = await files.read(found, request.offset, request.length);
        return { file: found.file, bytes };
      });
    case "versions":
      return listVersions(request);
    case "deleted":
      return listDeleted(request);
    case "changes":
      return listChanges(request);
  }
}

async function listVersions(
  { history: place, path, fromSeq, toSeq, limit }: BrowseQuestion<"versions">,
): Promise<FileVersionList> {
  using history = browser.openHistory(place);
  const found = await fileVersions(history.of(path), {
    versionsMax: limit,
    ...(fromSeq === undefined ? {} : { fromSeq }),
    ...(toSeq === undefined ? {} : { toSeq }),
  });
  return toldVersions(path, found);
}

async function listDeleted(
  { history: place, path, seq, limit }: BrowseQuestion<"deleted">,
): Promise<BrowseCalls["deleted"]["answer"]> {
  using history = browser.openHistory(place);
  const found = await deletedFiles({
    ...history.of(path),
    list: (at) => namesAt(history, path, at),
  }, { toSeq: seq, versionsMax: DIRECTORY_VERSIONS_MAX, filesMax: limit });
  return toldDeleted(path, found);
}

/** The names in a directory. */
function namesAt(history: VolumeHistory, path: string, seq: number): Promise<HistoryEntry[]> {
  return withFiles(history.placeAt(seq), seq, async (files) => {
    const { place } = await files.find(path, { follow: false });
    if (place === undefined) return [];
    const listing = await place.system.list(place.inode);
    return Array.from({ length: listing.length }, (_, index) => listing.at(index));
  });
}

async function listChanges(
  { history: place, path, fromSeq, toSeq, limit }: BrowseQuestion<"changes">,
): Promise<BrowseCalls["changes"]["answer"]> {
  using history = browser.openHistory(place);
  const walk = history.compare(fromSeq, toSeq, {
    changesMax: limit,
    ...(path === undefined ? {} : { path }),
  });
  const found: FileChange[] = [];
  for (;;) {
    const step = await walk.next();
    if (step.done) return toldChanges(found, step.value);
    found.push(step.value);
  }
}

scope.onmessage = async ({ data: request }) => {
  try {
    const done = await answer(request);
    scope.postMessage({ id: request.id, done }, "bytes" in done ? [done.bytes.buffer] : []);
  } catch (thrown) {
    const error = VarveError.from(thrown, `look for ${request.path ?? "files"} in the past`);
    scope.postMessage({ id: request.id, error: error.toMessage() }, []);
  }
};

/**
 * Files of the past: what a moment has of them, and what a history says of them.
 *
 * @module
 */
import type { Scheduler } from "./base/turns.ts";
import { checkSpan, listBlockChanges } from "./block_changes.ts";
import type {
  BlockChanges,
  DeletedFiles,
  FileChanges,
  FileContent,
  FileListing,
  FileVersionList,
  Moment,
} from "./engine.ts";
import type { History } from "./history.ts";
import type { Volumes } from "./volumes.ts";
import { Browser } from "./workers.ts";

const CONTENT_CHUNK_BYTES = 1 << 20;
/** Entries of a list when nobody says how many, and at most. */
const LIMIT = 1000;
const LIMIT_MAX = 10_000;
const VERSIONS_LIMIT = 100;
const VERSIONS_LIMIT_MAX = 1000;

/** What the past is looked into with. */
export interface PastAccessParts {
  /** Every volume. */
  readonly volumes: Volumes;
  /** Finds moments. */
  readonly history: History;
  /** Gives turns. */
  readonly scheduler: Scheduler;
  /** As in the options of the appliance. */
  readonly kernelReading?: URL | undefined;
}

/** The files of the past. */
export class PastAccess {
  readonly #volumes: Volumes;
  readonly #history: History;
  readonly #scheduler: Scheduler;
  readonly #browser: Browser;

  /** Works on `parts`. */
  constructor({ volumes, history, scheduler, kernelReading }: PastAccessParts) {
    this.#browser = new Browser(kernelReading);
    this.#volumes = volumes;
    this.#history = history;
    this.#scheduler = scheduler;
  }

  /** A directory, or one file, of the past. */
  async listFiles(name: string, at: string, path: string): Promise<FileListing> {
    const { moment, place } = await this.#history.locate(name, at);
    return { ...moment, ...await this.#browser.ask({ call: "list", place, seq: moment.seq, path }) };
  }

  /** Content of a file of the past. */
  async readFile(name: string, at: string, path: string): Promise<FileContent> {
    const { moment, place } = await this.#history.locate(name, at);
    const read = (offset: number) =>
      this.#browser.ask({ call: "read", place, seq: moment.seq, path, offset, length: CONTENT_CHUNK_BYTES });
    let next = await read(0);
    const { file } = next;
    let offset = 0;
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { bytes } = next;
        offset += bytes.length;
        if (bytes.length > 0) controller.enqueue(bytes);
        if (bytes.length === 0 || offset >= file.sizeBytes) controller.close();
        else next = await read(offset);
      },
    });
    return { ...moment, file, body };
  }

  /** Every version of one file. */
  async listFileVersions(
    name: string,
    path: string,
    options: { from?: string; to?: string; limit?: number },
  ): Promise<FileVersionList> {
    const [from, to] = [await this.#end(name, options.from), await this.#end(name, options.to)];
    if (from !== undefined && to !== undefined) checkSpan({ from, to });
    return await this.#browser.ask({
      call: "versions",
      history: await this.#history.locateHistory(name),
      path,
      limit: Math.min(options.limit ?? VERSIONS_LIMIT, VERSIONS_LIMIT_MAX),
      ...(from === undefined ? {} : { fromSeq: from.seq }),
      ...(to === undefined ? {} : { toSeq: to.seq }),
    });
  }

  async #end(name: string, at: string | undefined): Promise<Moment | undefined> {
    return at === undefined ? undefined : await this.#history.resolve(name, at);
  }

  /** What a directory held before a moment. */
  async listDeletedFiles(
    name: string,
    at: string,
    path: string,
    options: { limit?: number },
  ): Promise<DeletedFiles> {
    const moment = await this.#history.resolve(name, at);
    const history = await this.#history.locateHistory(name);
    const limit = limitOf(options);
    return {
      ...moment,
      ...await this.#browser.ask({ call: "deleted", history, path, seq: moment.seq, limit }),
    };
  }

  /** Files that differ between two times. */
  async listFileChanges(
    name: string,
    options: { from: string; to: string; path?: string; limit?: number },
  ): Promise<FileChanges> {
    const { from, to } = await this.#span(name, options);
    const found = await this.#browser.ask({
      call: "changes",
      history: await this.#history.locateHistory(name),
      fromSeq: from.seq,
      toSeq: to.seq,
      limit: limitOf(options),
      ...(options.path === undefined ? {} : { path: options.path }),
    });
    return { from, to, ...found };
  }

  async #span(name: string, ends: { from: string; to: string }): Promise<{ from: Moment; to: Moment }> {
    const from = await this.#history.resolve(name, ends.from);
    const to = await this.#history.resolve(name, ends.to);
    checkSpan({ from, to });
    return { from, to };
  }

  /** Blocks written between two times. */
  async listBlockChanges(
    name: string,
    options: { from: string; to: string; offset?: number; limit?: number },
  ): Promise<BlockChanges> {
    const span = await this.#span(name, options);
    return await listBlockChanges(this.#volumes.open(name), { ...options, ...span }, this.#scheduler);
  }

  /** Ends the Worker that reads files. */
  close(): void {
    this.#browser.close();
  }
}

function limitOf({ limit = LIMIT }: { limit?: number }): number {
  return Math.min(limit, LIMIT_MAX);
}

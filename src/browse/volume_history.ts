/**
 * The whole history of a volume, for those who look for something at many of its moments.
 *
 * @module
 */
import type { Gap } from "../catalog/gaps.ts";
import { sizeAt, type VolumeSize } from "../catalog/sizes.ts";
import { lastChangeOf } from "../timeline/changes.ts";
import { openPast, type PastHistory, type PastPlace } from "../timeline/past.ts";
import type { FileProbe } from "./_file_probe.ts";
import type { ChangedFilesEnd, FileChange } from "./changed_files.ts";
import { MapMomentSteps, type MomentSteps } from "./_moment_steps.ts";
import type { ByteRange } from "./_ranges.ts";
import type { Sandbox } from "./sandbox.ts";
import type { FileHistory } from "./versions.ts";

/** Where a volume's history lies, and what its map alone does not tell. */
export interface HistoryPlace {
  /** The volume's folder. */
  readonly directory: string;
  /** Sizes that it has had, oldest first. */
  readonly sizes: readonly VolumeSize[];
  /** Spans without history. */
  readonly gaps: readonly Gap[];
}

/** A history that is open: its map in this thread, the reading of its file systems in a sandbox. */
export class VolumeHistory implements Disposable {
  /** The moments that exist. */
  readonly moments: MomentSteps;
  readonly #place: HistoryPlace;
  readonly #past: PastHistory;
  readonly #sandbox: Sandbox;

  /** Opens it. Throws what opening its map throws. */
  constructor(place: HistoryPlace, sandbox: Sandbox) {
    this.#place = place;
    this.#past = openPast(place.directory);
    this.#sandbox = sandbox;
    this.moments = new MapMomentSteps(this.#past.map, place.gaps);
  }

  /** Where a moment is opened. */
  placeAt(seq: number): PastPlace {
    const { directory, sizes } = this.#place;
    return { directory, sizeBytes: sizeAt(sizes, seq) };
  }

  /** The history of one path. */
  of(path: string): FileHistory {
    return {
      moments: this.moments,
      probe: (seq) => this.#probe(path, seq),
      lastChange: (ranges, fromSeq, toSeq) => this.lastChange(ranges, fromSeq, toSeq),
    };
  }

  async #probe(path: string, seq: number): Promise<FileProbe> {
    const moment = this.#register(seq);
    try {
      return await this.#sandbox.ask(moment, { call: "probe", path });
    } finally {
      this.#sandbox.forget(moment);
    }
  }

  /** Files that differ between two moments, at a path and below. Rejects as the sandbox does. */
  async *compare(
    fromSeq: number,
    toSeq: number,
    options: { readonly path?: string; readonly changesMax: number },
  ): AsyncGenerator<FileChange, ChangedFilesEnd> {
    const [from, to] = [fromSeq, toSeq].map((seq) => this.#register(seq)) as [number, number];
    try {
      const comparison = to;
      let part = await this.#sandbox.ask(to, {
        call: "compare",
        comparison,
        from: this.#sandbox.numberOf(from),
        ...options,
      });
      for (;;) {
        yield* part.changes;
        if (part.end !== undefined) return part.end;
        part = await this.#sandbox.ask(to, { call: "compare", comparison, ...options });
      }
    } finally {
      this.#sandbox.forget(from);
      this.#sandbox.forget(to);
    }
  }

  #register(seq: number): number {
    return this.#sandbox.register({ place: this.placeAt(seq), seq });
  }

  /** The newest command after one moment up to another that touched a block of `ranges`, or `undefined`. */
  lastChange(ranges: readonly ByteRange[], fromSeq: number, toSeq: number): number | undefined {
    return lastChangeOf({ regions: this.#past.regions, fromSeq, toSeq }, ranges);
  }

  /** Gives back what it holds. */
  [Symbol.dispose](): void {
    this.#past.close();
  }
}

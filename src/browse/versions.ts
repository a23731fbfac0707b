/**
 * Every version of one file over the whole retained window.
 *
 * Two levels of moments are looked at. Versions are told apart at **settled** moments: those at which the guest promised itself
 * consistency, and those that retention or people keep. Between two settled moments that show different versions, single
 * commands are looked at for the exact moments at which one ends and the other begins; what is seen only in between, half of a
 * change, is no version. Where a guest never flushes, some thousand writes lie between two settled moments.
 *
 * Two moments show the same version when what a probe says of the file is the same, none of its stored blocks was written in
 * between, and one of these proves that it was not another in the meantime:
 * - the guest keeps times of change, and the file's, as well as those of the way to it, are what they were. A directory may have
 *   changed where what the name leads to has not: to be moved away and back changes it too;
 * - no block that the answer was read from was written in between.
 *
 * Where they are alike without proof, such as the absence of a file from a directory in which others come and go, some moments
 * between them are looked at; what is left is told as `unproven`.
 *
 * The newest is found first, and the time of change of a version says near which moment it began. So the number of probes is a
 * few for each version, and in no case more than grows with the logarithm of the history.
 *
 * @module
 */
import type { PackedMoment } from "../catalog/packing.ts";
import type { FileProbe, ProbedFile } from "./_file_probe.ts";
import type { MomentSteps } from "./_moment_steps.ts";
import { type ByteRange, joined } from "./_ranges.ts";
import { type Relation, RunFinder } from "./_run_finder.ts";

export { type FileProbe, type ProbedFile, type ProbedStep, probeFile } from "./_file_probe.ts";
export { MapMomentSteps, type MomentSteps } from "./_moment_steps.ts";
export { pastFileHistory, type PastSource } from "./_past_files_history.ts";
export { type ByteRange, NotingDevice } from "./_ranges.ts";

/** The history of one path, opened by whoever asks. */
export interface FileHistory {
  /** The moments that exist. */
  readonly moments: MomentSteps;
  /** What a moment says of the path. Never rejects because of what the guest holds. */
  probe(seq: number): Promise<FileProbe>;
  /** The newest command after one moment up to another that touched a block of `ranges`, or `undefined`. */
  lastChange(ranges: readonly ByteRange[], fromSeq: number, toSeq: number): number | undefined;
}

/** How far to look. */
export interface VersionsOptions {
  /** The oldest moment wanted; default: the oldest that exists. */
  readonly fromSeq?: number;
  /** The newest moment wanted; default: the newest that exists. */
  readonly toSeq?: number;
  /** Versions told at most; default 100. */
  readonly versionsMax?: number;
  /** Moments opened at most; default 1,000. The last version may take a few more. */
  readonly probesMax?: number;
  /** Ends the search: it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** From one moment to another, both included. */
export interface MomentSpan {
  /** The first. */
  readonly from: PackedMoment;
  /** The last. */
  readonly until: PackedMoment;
}

/** A version, or a time without the file. */
export interface FileVersion extends MomentSpan {
  /** The file; `undefined` while there was none. */
  readonly file: ProbedFile | undefined;
  /**
   * Whether its bytes may differ from those of the version before: `false` when only attributes changed. `undefined` when either
   * was absent, or nothing older was looked at.
   */
  readonly contentChanged?: boolean;
}

/** What was found. */
export interface FileVersions {
  /** Versions and times without the file, newest first; two neighbours are never the same. */
  readonly versions: readonly FileVersion[];
  /** Moments at which the file cannot be read, newest first. A version may go on behind them. */
  readonly unreadable: readonly (MomentSpan & { readonly reason: string })[];
  /** Moments between which something short-lived may have been missed, newest first. */
  readonly unproven: readonly MomentSpan[];
  /** Whether a limit was reached: older versions may exist. */
  readonly truncated: boolean;
  /** Moments that were opened. */
  readonly probes: number;
}

const VERSIONS_MAX = 100;
const PROBES_MAX = 1000;
/** Looks between moments that are alike without proof, for each version. */
const PATIENCE = 64;
/** Probes kept at a time: with their ranges they may be large. */
const KEPT_MAX = 256;
/** Steps from one change of what a probe has read to the one before it, until halving takes over. */
const STEPS_MAX = 6;
/** Unreadable spans that are gone around for each version that is wanted. */
const UNREADABLE_SHARE = 2;

interface Run {
  first: number;
  last: number;
  readonly probe: FileProbe;
}

/** Finds every version of a file. Rejects with what `history` rejects with, and when `signal` says so. */
export async function fileVersions(
  history: FileHistory,
  options: VersionsOptions = {},
): Promise<FileVersions> {
  return await new VersionSearch(history, options).run();
}

class VersionSearch {
  readonly #history: FileHistory;
  readonly #options: VersionsOptions;
  readonly #settled: RunFinder;
  readonly #every: RunFinder;
  readonly #probes = new Map<number, FileProbe>();
  readonly #unproven: [number, number][] = [];
  #probed = 0;

  constructor(history: FileHistory, options: VersionsOptions) {
    this.#history = history;
    this.#options = options;
    const relate = (earlier: number, later: number) => this.#relate(earlier, later);
    const onUnproven = (earlier: number, later: number) => void this.#unproven.push([earlier, later]);
    this.#settled = new RunFinder(history.moments.settled, { relate, onUnproven }, PATIENCE);
    this.#every = new RunFinder(history.moments.every, { relate, onUnproven }, PATIENCE);
  }

  async run(): Promise<FileVersions> {
    const { settled, every } = this.#history.moments;
    const newest = every.atOrBefore(this.#options.toSeq ?? Number.MAX_SAFE_INTEGER);
    const oldest = every.after((this.#options.fromSeq ?? 0) - 1);
    const found = { versions: [], unreadable: [], unproven: [], truncated: false, probes: 0 };
    if (newest === undefined || oldest === undefined || newest < oldest) return found;
    const runs: Run[] = [];
    let truncated = false;
    for (let last = newest;;) {
      const probe = await this.#look(last);
      const run = { first: await this.#settled.firstOf(oldest, last, this.#guess(probe)), last, probe };
      const newer = runs.at(-1);
      runs.push(run);
      if (newer !== undefined) await this.#refine(run, newer);
      if (run.first <= oldest) break;
      // The oldest moment that is wanted need not be a settled one.
      const before = Math.max(oldest, settled.atOrBefore(run.first - 1) ?? oldest);
      if (this.#isEnough(runs)) {
        truncated = true;
        await this.#refine({ first: before, last: before, probe: await this.#look(before) }, run);
        break;
      }
      last = before;
    }
    return await this.#told(runs, truncated);
  }

  /** Whether a limit is reached. */
  #isEnough(runs: readonly Run[]): boolean {
    const { versionsMax = VERSIONS_MAX, probesMax = PROBES_MAX } = this.#options;
    const count = (state: FileProbe["state"]) => runs.filter(({ probe }) => probe.state === state).length;
    return this.#probed >= probesMax || count("present") >= versionsMax ||
      count("unreadable") >= UNREADABLE_SHARE * versionsMax;
  }

  /** Where a version is likely to begin: what changed last about it says when that was. */
  #guess({ file, way }: FileProbe): number | undefined {
    const changedNs = file?.changedNs ?? way.at(-1)?.directoryChangedNs;
    return changedNs === undefined ? undefined : this.#history.moments.seqAt(Number(changedNs / 1000n));
  }

  async #look(seq: number): Promise<FileProbe> {
    this.#options.signal?.throwIfAborted();
    let probe = this.#probes.get(seq);
    if (probe === undefined) {
      this.#probed++;
      probe = await this.#history.probe(seq);
    } else this.#probes.delete(seq);
    this.#probes.set(seq, probe);
    for (const oldest of this.#probes.keys()) {
      if (this.#probes.size <= KEPT_MAX) break;
      this.#probes.delete(oldest);
    }
    return probe;
  }

  async #relate(earlierSeq: number, laterSeq: number): Promise<Relation> {
    const later = await this.#look(laterSeq);
    const earlier = await this.#look(earlierSeq);
    if (!isAlike(earlier, later)) return "different";
    if (this.#changed(later.stored, earlierSeq, laterSeq)) return "different";
    const proved = later.complete && later.keepsChangeTimes && isUnbroken(earlier.way, later.way);
    if (proved && later.state !== "unreadable") return "same";
    const read = joined([...later.read, ...later.stored]);
    return later.complete && !this.#changed(read, earlierSeq, laterSeq) ? "same" : "unproven";
  }

  #changed(ranges: readonly ByteRange[], fromSeq: number, toSeq: number): boolean {
    return ranges.length > 0 && this.#history.lastChange(ranges, fromSeq, toSeq) !== undefined;
  }

  /** Moves the end of a run and the beginning of the next one from settled moments to exact ones. */
  async #refine(older: Run, newer: Run): Promise<void> {
    const { every } = this.#history.moments;
    const low = older.last;
    newer.first = await this.#exactFirst(low, newer.first);
    const before = every.atOrBefore(newer.first - 1) ?? low;
    older.last = await this.#every.lastOf(low, Math.max(low, before));
  }

  /**
   * The first moment of the run that `high` is in, where `low` is known to be of another. From one change of what a probe has
   * read to the next nothing can be different, so it goes back from change to change for as long as that is short.
   */
  async #exactFirst(low: number, high: number): Promise<number> {
    const { every } = this.#history.moments;
    let at = high;
    for (let step = 0; step < STEPS_MAX; step++) {
      const { read, stored, complete } = await this.#look(at);
      const changed = complete ? this.#history.lastChange(joined([...read, ...stored]), low, at) : undefined;
      const before = changed === undefined ? undefined : every.atOrBefore(changed - 1);
      if (changed === undefined || before === undefined || every.atOrBefore(changed) !== changed) break;
      if (before <= low || await this.#relate(before, at) === "different") return changed;
      at = before;
    }
    return await this.#every.firstOf(low, at, Math.floor((low + at) / 2));
  }

  async #told(found: readonly Run[], truncated: boolean): Promise<FileVersions> {
    const unreadable = found.filter(({ probe }) => probe.state === "unreadable");
    const runs: Run[] = [];
    for (const run of found.filter(({ probe }) => probe.state !== "unreadable")) {
      const newer = runs.at(-1);
      const joins = newer !== undefined && await this.#relate(run.last, newer.first) !== "different";
      if (joins) newer.first = run.first;
      else runs.push({ ...run });
    }
    const versions: FileVersion[] = [];
    for (const [index, run] of runs.entries()) {
      const older = runs[index + 1];
      const { file } = run.probe;
      const isChange = file !== undefined && older?.probe.file !== undefined;
      const contentChanged = isChange ? { contentChanged: await this.#isContentChanged(older, run) } : {};
      versions.push({ ...this.#span(run.first, run.last), file, ...contentChanged });
    }
    return {
      versions,
      unreadable: unreadable.map(({ first, last, probe }) => ({
        ...this.#span(first, last),
        reason: probe.reason ?? "",
      })),
      unproven: this.#unproven.toSorted(([a], [b]) => b - a).map(([first, last]) => this.#span(first, last)),
      truncated,
      probes: this.#probed,
    };
  }

  async #isContentChanged(older: Run, newer: Run): Promise<boolean> {
    const [before, after] = [await this.#look(older.last), await this.#look(newer.first)];
    const [one, other] = [before.file, after.file];
    return one?.inode !== other?.inode || one?.sizeBytes !== other?.sizeBytes ||
      one?.modifiedNs !== other?.modifiedNs || before.place !== after.place ||
      !before.complete || !after.complete || this.#changed(after.stored, older.last, newer.first);
  }

  #span(first: number, last: number): MomentSpan {
    const moment = (seq: number) => this.#history.moments.momentAt(seq) ?? { seq, timeUs: 0, kind: 0 };
    return { from: moment(first), until: moment(last) };
  }
}

/** Whether two probes say the same of the file, but for what was written to its stored blocks. */
function isAlike(one: FileProbe, other: FileProbe): boolean {
  if (one.state !== other.state || one.place !== other.place) return false;
  const [a, b] = [one.file, other.file];
  if (a === undefined || b === undefined) return a === b;
  return a.inode === b.inode && a.type === b.type && a.mode === b.mode && a.uid === b.uid &&
    a.gid === b.gid &&
    a.links === b.links && a.sizeBytes === b.sizeBytes && a.rdev === b.rdev &&
    a.modifiedNs === b.modifiedNs &&
    a.changedNs === b.changedNs && a.bornNs === b.bornNs && a.target?.toHex() === b.target?.toHex();
}

/**
 * Whether two ways to a file are proved to have been the same all the time in between. Every step must lead to the inode that it
 * led to, and either that, or the directory that holds its name, must not have been changed.
 */
function isUnbroken(one: FileProbe["way"], other: FileProbe["way"]): boolean {
  return one.length === other.length && one.every((step, index) => {
    const same = other[index];
    if (same === undefined || step.directory !== same.directory) return false;
    if (step.found?.inode !== same.found?.inode) return false;
    return step.directoryChangedNs === same.directoryChangedNs ||
      (step.found !== undefined && step.found.changedNs === same.found?.changedNs);
  });
}

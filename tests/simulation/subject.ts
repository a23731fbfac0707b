/** A volume of the simulation, with all that was promised about it. */
import type { RetentionPolicy } from "../../src/engine.ts";
import { type Change, VolumeModel } from "./model.ts";

/** A mark as it may be; `undefined` stands for no mark of that name. */
export type MarkState = { readonly seq: number; readonly pinned: boolean } | undefined;

/** Which moments exist: those in `kept`, and every one from `horizon` on. */
export interface Retained {
  readonly horizon: number;
  readonly kept: ReadonlySet<number>;
}

/** A prune that was started and whose outcome has not been looked at. */
export interface StartedPrune {
  readonly jobId: string;
  readonly policy: RetentionPolicy;
  /** Sequences of marks that were pinned when it began. */
  readonly pinned: readonly number[];
  /** Sequences of other marks. */
  readonly unpinned: readonly number[];
  /** The latest that the wall clock has shown since it began, in microseconds. */
  latestUs: number;
}

/** A gap in the history: the sequences between its ends do not exist as moments. */
export interface SubjectGap {
  readonly fromSeq: number;
  /** Absent while it is open. */
  readonly toSeq: number | undefined;
  /** Whether its end is durable for certain; on failing storage the engine may tell of it before. */
  readonly isEndDurable: boolean;
}

/** One volume: its model, and what hosts and people were told. */
export class Subject {
  readonly name: string;
  sizeBytes: number;
  model: VolumeModel;
  /** `asked` and `leaving`: it may be there, being made or deleted. `there`: it must be. */
  state: "unasked" | "asked" | "there" | "leaving" = "unasked";
  id = "";
  /** Newest sequence acknowledged as durable: it survives power loss. */
  durableSeq = 0;
  /** Newest sequence acknowledged at all: it survives the death of the process. */
  answeredSeq = 0;
  /** As `durableSeq` and `answeredSeq`, in the order of the model: for changes that went past the journal. */
  durableOrder = 0;
  answeredOrder = 0;
  /** The model's order before the oldest change that waits for a gap to be opened. */
  heldFrom: number | undefined;
  /** The model's order before the oldest change of which nobody could tell whether it has happened. */
  doubtFrom: number | undefined;
  /** Gaps as the engine has last told of them, oldest first. */
  gaps: readonly SubjectGap[] = [];
  /** Gaps seen so far. */
  gapsSeen = 0;
  /** A resize that was ordered and not looked at since. */
  resizing: { readonly from: number; readonly to: number; isAnswered: boolean } | undefined;
  /** A command that was refused for a failure of the storage: it may be in the journal all the same. */
  uncertain: Change | undefined;
  /** For each name every state that the mark may be in. */
  readonly marks = new Map<string, MarkState[]>();
  /** Policies that may be in force, as JSON. */
  policies: string[] = [];
  retained: Retained = { horizon: 0, kept: new Set() };
  prune: StartedPrune | undefined;
  /** Space was short in this life: the oldest history may have been thinned, though no pinned mark. */
  mayThin = false;
  /** Where the disk lies that was adopted, or `undefined`. */
  readonly adoptedPath: string | undefined;
  /** What the engine has shown as copied of an adopted disk, in bytes. */
  copiedBytes = 0;
  /** The engine has shown the copy as complete. */
  isCopied = false;

  constructor(name: string, sizeBytes: number, adoptedPath?: string) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.adoptedPath = adoptedPath;
    this.model = new VolumeModel(sizeBytes, 0);
  }

  /** The volume is gone; the next one of its name begins anew. */
  reset(): void {
    this.model = new VolumeModel(this.sizeBytes, 0);
    this.state = "unasked";
    this.id = "";
    this.durableSeq = 0;
    this.answeredSeq = 0;
    this.durableOrder = 0;
    this.answeredOrder = 0;
    this.heldFrom = undefined;
    this.doubtFrom = undefined;
    this.gaps = [];
    this.uncertain = undefined;
    this.resizing = undefined;
    this.marks.clear();
    this.policies = [];
    this.retained = { horizon: 0, kept: new Set() };
    this.prune = undefined;
    this.mayThin = false;
  }

  /** Whether a gap is open. */
  get isInGap(): boolean {
    return this.gaps.some((gap) => gap.toSeq === undefined);
  }

  /** Whether a sequence lies within a gap, its ends left out. */
  isGap(seq: number): boolean {
    return this.gaps.some(({ fromSeq, toSeq = Infinity }) => fromSeq < seq && seq < toSeq);
  }

  /** Whether a moment exists. */
  retains(seq: number): boolean {
    if (this.isGap(seq)) return false;
    return seq >= this.retained.horizon ? seq <= this.model.lastSeq : this.retained.kept.has(seq);
  }

  /** Every moment there is, ascending. */
  retainedSeqs(): number[] {
    const seqs = [...this.retained.kept].sort((a, b) => a - b);
    for (let seq = this.retained.horizon; seq <= this.model.lastSeq; seq++) {
      if (!this.isGap(seq)) seqs.push(seq);
    }
    return seqs;
  }

  /** A mark of this name may be in a further state from now on. */
  mayBecome(mark: string, state: MarkState): void {
    this.marks.set(mark, [...(this.marks.get(mark) ?? [undefined]), state]);
  }

  /** A mark is in a state for certain. */
  becomes(mark: string, state: MarkState): void {
    if (state === undefined) this.marks.delete(mark);
    // A prune that is under way may take it.
    else this.marks.set(mark, this.prune === undefined ? [state] : [state, undefined]);
  }

  /** Marks that exist for certain, with their state. */
  certainMarks(): { name: string; seq: number; pinned: boolean }[] {
    return [...this.marks].flatMap(([name, states]) => {
      const state = states.length === 1 ? states[0] : undefined;
      return state === undefined ? [] : [{ name, ...state }];
    });
  }
}

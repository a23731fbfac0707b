/**
 * What the texts of a journal come to: the volume, its marks, its policy and what retention has left of it.
 *
 * The live volume keeps this state in step with the texts as it appends them, not with the catalogue, which learns of
 * them later. So the text that opens a segment says exactly what all texts before it say, and each of them makes
 * everything before it needless: a compaction may drop any segment, a rebuild begins at the newest.
 *
 * @module
 */
import type { MarkRow, VolumeRow } from "../catalog/catalog.ts";
import type { Gap } from "../catalog/gaps.ts";
import { intersectRetained, isRetained, type Retained } from "../catalog/moments.ts";
import { type VolumeSize, withSize } from "../catalog/sizes.ts";
import { gapsOfText } from "./gap_texts.ts";
import type { JournalText } from "./journal_text.ts";

/** The text that says everything. */
export type VolumeText = Extract<JournalText, { type: "volume" }>;

/** What the texts so far come to. */
export class JournalState {
  #volume: VolumeRow;
  readonly #marks = new Map<string, MarkRow>();
  #retained: Retained;
  #baselineComplete: boolean;
  #deleted: boolean;
  #durableSeq: number;
  #sizes: VolumeSize[];
  #lastClient: number;
  readonly #gaps = new Map<number, Gap>();

  /** Begins with a text that says everything. */
  constructor(text: VolumeText) {
    this.#volume = text.volume;
    this.#retained = text.retained;
    this.#baselineComplete = text.baselineComplete;
    this.#deleted = text.deleted ?? false;
    this.#durableSeq = text.durableSeq;
    this.#sizes = sizesOf(text);
    this.#lastClient = text.lastClient ?? 0;
    for (const mark of text.marks) this.#marks.set(mark.name, mark);
    this.#noteGaps(text);
  }

  #noteGaps(text: JournalText): void {
    for (const gap of gapsOfText(text)) this.#gaps.set(gap.fromSeq, gap);
  }

  /** The volume with its policy. */
  get volume(): VolumeRow {
    return this.#volume;
  }

  /** Every size that the volume has had, oldest first. */
  get sizes(): readonly VolumeSize[] {
    return this.#sizes;
  }

  /** The last number that a client was known by, or 0. */
  get lastClient(): number {
    return this.#lastClient;
  }

  /** Marks whose moments exist, in the order of their sequences. */
  get marks(): MarkRow[] {
    return [...this.#marks.values()].sort((a, b) => a.seq - b.seq);
  }

  /** Which moments exist. */
  get retained(): Retained {
    return this.#retained;
  }

  /** Whether history holds everything that an adopted disk held. */
  get baselineComplete(): boolean {
    return this.#baselineComplete;
  }

  /** Spans that the history does not know, oldest first. */
  get gaps(): Gap[] {
    return [...this.#gaps.values()].sort((a, b) => a.fromSeq - b.fromSeq);
  }

  /** Whether the volume was deleted, and its folder left. */
  get deleted(): boolean {
    return this.#deleted;
  }

  /** A sequence up to which the primary, and so the journal, was durable. */
  get durableSeq(): number {
    return this.#durableSeq;
  }

  /** Takes the next text. */
  take(text: JournalText, record: { seq: number; timeUs: number }): void {
    this.#noteGaps(text);
    switch (text.type) {
      case "volume":
        this.#volume = text.volume;
        this.#marks.clear();
        for (const mark of text.marks) this.#marks.set(mark.name, mark);
        this.#retained = intersectRetained(this.#retained, text.retained);
        this.#baselineComplete ||= text.baselineComplete;
        this.#durableSeq = Math.max(this.#durableSeq, text.durableSeq);
        this.#deleted = text.deleted ?? false;
        this.#sizes = sizesOf(text);
        this.#lastClient = Math.max(this.#lastClient, text.lastClient ?? 0);
        break;
      case "mark":
        this.#marks.set(text.name, {
          name: text.name,
          seq: record.seq,
          timeUs: record.timeUs,
          pinned: text.pinned,
          note: text.note,
        });
        break;
      case "mark-changed": {
        const mark = this.#marks.get(text.name);
        if (mark !== undefined) {
          this.#marks.set(text.name, { ...mark, pinned: text.pinned, note: text.note });
        }
        break;
      }
      case "mark-deleted":
        this.#marks.delete(text.name);
        break;
      case "policy":
        this.#volume = { ...this.#volume, policy: JSON.stringify(text.policy) };
        break;
      case "thinned":
        this.#retained = intersectRetained(this.#retained, text);
        for (const mark of this.marks) {
          if (!isRetained(this.#retained, mark.seq)) this.#marks.delete(mark.name);
        }
        break;
      case "baseline-complete":
        this.#baselineComplete = true;
        break;
      case "resized":
        this.#volume = { ...this.#volume, sizeBytes: text.sizeBytes };
        this.#sizes = withSize(this.#sizes, { fromSeq: text.fromSeq, sizeBytes: text.sizeBytes });
        break;
      case "client":
        this.#lastClient = Math.max(this.#lastClient, text.client);
        break;
      case "volume-deleted":
        this.#deleted = true;
        break;
      case "baseline-begun":
      case "compaction":
      case "gap":
      case "gap-end":
        break;
    }
  }

  /** The text that says all of it; `volume` may know more of the volume than the texts, but for its policy and its size. */
  text(
    now: Pick<VolumeText, "volume" | "durableSeq" | "baselineComplete" | "gaps">,
  ): VolumeText {
    return {
      type: "volume",
      volume: { ...now.volume, policy: this.#volume.policy, sizeBytes: this.#volume.sizeBytes },
      marks: this.marks,
      retained: this.#retained,
      baselineComplete: this.#baselineComplete || now.baselineComplete,
      gaps: now.gaps,
      sizes: [...this.#sizes],
      lastClient: this.#lastClient,
      durableSeq: now.durableSeq,
      ...(this.#deleted ? { deleted: true } : {}),
    };
  }
}

/** A volume of which nothing says otherwise has always had its size. */
function sizesOf({ sizes, volume }: VolumeText): VolumeSize[] {
  return sizes ?? [{ fromSeq: 0, sizeBytes: volume.sizeBytes }];
}

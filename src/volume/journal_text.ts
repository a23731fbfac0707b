/**
 * What marks and meta records in the journal say, as JSON. `docs/format.md` tells each of them in prose.
 *
 * @module
 */
import type { MarkRow, VolumeRow } from "../catalog/catalog.ts";
import type { ClientIdentity } from "../catalog/clients.ts";
import type { Retained } from "../catalog/moments.ts";
import type { VolumeSize } from "../catalog/sizes.ts";
import type { GapEndText, GapText } from "./gap_texts.ts";

/** One text. */
export type JournalText =
  | { type: "mark"; name: string; pinned: boolean; note?: string }
  | { type: "mark-changed"; name: string; pinned: boolean; note?: string }
  | { type: "mark-deleted"; name: string }
  | { type: "policy"; policy: unknown }
  | { type: "thinned" } & Retained
  | { type: "compaction"; replaces: number[]; retained: Retained }
  | { type: "baseline-begun" }
  | { type: "baseline-complete" }
  | GapText
  | GapEndText
  | { type: "resized" } & VolumeSize
  | { type: "client" } & ClientIdentity
  | { type: "volume-deleted" }
  | {
    type: "volume";
    volume: VolumeRow;
    marks: MarkRow[];
    retained: Retained;
    baselineComplete: boolean;
    gaps: (GapText | GapEndText)[];
    /** Every size that it has had, oldest first. A text of before there were several has none. */
    sizes?: VolumeSize[];
    /** The last number that a client was known by. */
    lastClient?: number;
    /** Up to here the primary was durable when this was written. */
    durableSeq: number;
    /** Only where the volume has been deleted. */
    deleted?: boolean;
  };

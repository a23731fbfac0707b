/**
 * Gaps as the journal's texts tell them.
 *
 * @module
 */
import type { Gap } from "../catalog/gaps.ts";
import type { JournalText } from "./journal_text.ts";

/** A gap has begun, or hosts' writes go past the journal again within one. */
export interface GapText {
  /** Names the text. */
  readonly type: "gap";
  /** Last sequence before the gap. */
  readonly fromSeq: number;
  /** Since when nothing is known, in microseconds. */
  readonly fromUs: number;
}

/** A gap has ended. */
export interface GapEndText {
  /** Names the text. */
  readonly type: "gap-end";
  /** Last sequence before the gap. */
  readonly fromSeq: number;
  /** Since when nothing was known, in microseconds. */
  readonly fromUs: number;
  /** First sequence that is exact again. */
  readonly toSeq: number;
  /** Time of that sequence, in microseconds. */
  readonly toUs: number;
}

/** The text that tells of a gap as it is. */
export function textOfGap({ fromSeq, fromUs, toSeq, toUs }: Gap): GapText | GapEndText {
  if (toSeq === undefined || toUs === undefined) return { type: "gap", fromSeq, fromUs };
  return { type: "gap-end", fromSeq, fromUs, toSeq, toUs };
}

/** The gaps that a text tells of, each for {@linkcode Gaps.note}; reading texts in order gives all gaps of a history. */
export function gapsOfText(text: JournalText): readonly Gap[] {
  switch (text.type) {
    case "gap":
      return [{ fromSeq: text.fromSeq, fromUs: text.fromUs, toSeq: undefined, toUs: undefined }];
    case "gap-end": {
      const { fromSeq, fromUs, toSeq, toUs } = text;
      return [{ fromSeq, fromUs, toSeq, toUs }];
    }
    case "volume":
      return (text.gaps ?? []).flatMap(gapsOfText);
    default:
      return [];
  }
}

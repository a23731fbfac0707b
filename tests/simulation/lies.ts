/** Disks that lie about syncs: each must be found out, or the simulation proves nothing. */
import type { SyncTruth } from "../../src/disk/mod.ts";

type Truth = (place: string, what: "file" | "directory") => SyncTruth;

function onFiles(isMeant: (place: string) => boolean, truth: SyncTruth): Truth {
  return (place, what) => what === "file" && isMeant(place) ? truth : "honest";
}

const isSegment = (place: string) => place.includes(".seg");
const isPrimary = (place: string) => place.endsWith("primary.img");

/** By name. */
export const LIES = {
  /** Syncs of segments do nothing. */
  "segments": onFiles(isSegment, "ignored"),
  /** Syncs of the primary do nothing. */
  "primary": onFiles(isPrimary, "ignored"),
  /** Syncs of the folder of segments do nothing. */
  "directories": (place, what) => what === "directory" && place.endsWith("/segments") ? "ignored" : "honest",
  /** Syncs of segments take effect only after the next sync of the primary: the primary is written before the log. */
  "primary-before-log": onFiles(isSegment, "deferred"),
} satisfies Record<string, Truth>;

/** Names of {@linkcode LIES}. */
export type Lie = keyof typeof LIES;

/** Whether a word names a lie. */
export function isLie(word: string): word is Lie {
  return word in LIES;
}

/**
 * What may be asked of the thread that has the kernel read one disk, and what it answers.
 *
 * Files are named by handles, as `name_to_handle_at` gives them (their type as 4 bytes, then their own), each character one byte: they
 * stay good when the disk is mounted again, while paths change and inode numbers do not lead back.
 *
 * @module
 */
import type { VarveErrorMessage } from "../../src/base/errors.ts";
import type { PackedEntries } from "../../src/browse/packed_listing.ts";
import type { GuestFileSystem, GuestStat, GuestXattr } from "../../src/guestfs/guest.ts";

/** A file as it was found. */
export interface FoundFile {
  /** What is known of it. */
  readonly stat: GuestStat;
  /** Its handle. */
  readonly handle: string;
}

/** What is mounted. */
export interface MountSummary {
  /** The label, empty when there is none or the driver does not tell it. */
  readonly label: string;
  /** The root. */
  readonly root: FoundFile;
}

/** A directory. */
export interface FoundEntries {
  /** Names and what is known of them. */
  readonly entries: PackedEntries;
  /** Their handles, in the same order; empty where there is none. */
  readonly handles: readonly string[];
}

/** Every question, by name: what it takes, and its answer. */
export interface ReaderCalls {
  /** Mounts; asked once, before all others. `disk` is the path of a served disk. */
  mount: { takes: { disk: string; type: string }; answer: MountSummary };
  space: { takes: Record<never, never>; answer: GuestFileSystem["space"] };
  /** Looks through the whole file system for an inode number. */
  find: { takes: { inode: number }; answer: FoundFile };
  stat: { takes: { handle: string }; answer: FoundFile };
  lookup: { takes: { handle: string; name: Uint8Array }; answer: FoundFile | undefined };
  list: { takes: { handle: string }; answer: FoundEntries };
  readLink: { takes: { handle: string }; answer: Uint8Array };
  xattrs: { takes: { handle: string }; answer: GuestXattr[] };
  read: { takes: { handle: string; offset: number; length: number }; answer: Uint8Array };
  seek: { takes: { handle: string; offset: number; kind: "data" | "hole" }; answer: number | undefined };
  /** Unmounts; nothing is asked afterwards. */
  close: { takes: Record<never, never>; answer: undefined };
}

/** Name of a question. */
export type ReaderCallName = keyof ReaderCalls;

/** A question of one kind. */
export type ReaderQuestionOf<Name extends ReaderCallName> =
  & { readonly call: Name }
  & Readonly<ReaderCalls[Name]["takes"]>;

/** A question of any kind. */
export type ReaderQuestion = { [Name in ReaderCallName]: ReaderQuestionOf<Name> }[ReaderCallName];

/** To the thread. */
export interface ToReader {
  /** The answer repeats it. */
  readonly id: number;
  /** The question. */
  readonly question: ReaderQuestion;
}

/** From it, in the order of the questions. */
export type FromReader =
  & { readonly id: number }
  & ({ readonly answer: unknown } | { readonly error: VarveErrorMessage });

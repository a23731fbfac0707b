/**
 * What may be asked of the guest readers in their sandbox, and what they answer.
 *
 * @module
 */
import type { ErrorCode, VarveErrorMessage } from "../base/errors.ts";
import type { ContentRun, DiskPiece, GuestFileSystem, GuestStat, GuestXattr } from "../guestfs/guest.ts";
import type { FileProbe } from "./_file_probe.ts";
import type { ChangedFilesEnd, FileChange } from "./changed_files.ts";
import type { PackedEntries } from "./packed_listing.ts";

/** A file system, as far as it is told at once. */
export type FileSystemSummary = Pick<GuestFileSystem, "kind" | "label" | "root" | "keepsChangeTimes">;

/** What a disk holds. */
export interface DiskSummary {
  /** How it is divided. */
  readonly table: "none" | "mbr" | "gpt";
  /** Its partitions. */
  readonly partitions: readonly {
    readonly name: string;
    readonly pieces: readonly DiskPiece[];
    readonly fileSystem: FileSystemSummary | undefined;
    readonly reason: string | undefined;
    readonly refusal?: ErrorCode;
  }[];
}

/** What is asked of many inodes at once. A part is left out where it cannot be told; then it says why when it is asked for alone. */
export interface GuestDetails {
  readonly inode: number;
  /** All extended attributes. */
  readonly xattrs?: GuestXattr[];
  /** The target of a symbolic link. */
  readonly target?: Uint8Array;
  /** Where the content of a file begins. */
  readonly runs?: ContentRun[];
}

/** What a comparison has found since the last question. */
export interface ComparedPart {
  /** Files that differ. */
  readonly changes: FileChange[];
  /** Set when that is all. */
  readonly end?: ChangedFilesEnd;
}

/** Every question, by name: what it takes besides the moment, and its answer. `partition` is an index. */
export interface GuestCalls {
  describe: { takes: Record<never, never>; answer: DiskSummary };
  probe: { takes: { path: string }; answer: FileProbe };
  /**
   * Goes on comparing the files of `from` with those of the moment that is asked about, for a while. The first question of a
   * comparison has `from`; each has its number.
   */
  compare: {
    takes: { comparison: number; from?: MomentNumber; path?: string; changesMax: number };
    answer: ComparedPart;
  };
  space: { takes: { partition: number }; answer: GuestFileSystem["space"] };
  stat: { takes: { partition: number; inode: number }; answer: GuestStat };
  lookup: {
    takes: { partition: number; inode: number; name: Uint8Array };
    answer: GuestStat | undefined;
  };
  list: { takes: { partition: number; inode: number }; answer: PackedEntries };
  readLink: { takes: { partition: number; inode: number }; answer: Uint8Array };
  xattrs: { takes: { partition: number; inode: number }; answer: GuestXattr[] };
  details: { takes: { partition: number; inodes: readonly number[] }; answer: GuestDetails[] };
  map: {
    takes: { partition: number; inode: number; offset: number; length: number };
    answer: ContentRun[];
  };
  read: {
    takes: { partition: number; inode: number; offset: number; length: number };
    answer: Uint8Array;
  };
}

/** Name of a question. */
export type GuestCallName = keyof GuestCalls;

/** A moment as the sandbox knows it. */
export interface MomentNumber {
  /** Number under which its blocks are read. */
  readonly moment: number;
  /** Its sequence. */
  readonly seq: number;
  /** Size of its disk in bytes. */
  readonly sizeBytes: number;
  /** Tells its volume from others. */
  readonly volume: string;
}

/** A question of one kind. */
export type QuestionOf<Name extends GuestCallName> =
  & { readonly call: Name }
  & Readonly<GuestCalls[Name]["takes"]>;

/** A question of any kind. */
export type GuestQuestion = { [Name in GuestCallName]: QuestionOf<Name> }[GuestCallName];

/** To the sandbox. */
export type ToGuest =
  | { readonly kind: "start"; readonly memory: SharedArrayBuffer; readonly port: MessagePort }
  | ({ readonly kind: "ask"; readonly id: number; readonly question: GuestQuestion } & MomentNumber)
  | { readonly kind: "forget"; readonly moment: number };

/** From the sandbox: that it is ready, then answers in the order of the questions. */
export type FromGuest =
  | { readonly ready: true }
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: VarveErrorMessage };

/**
 * What the engine offers to the rooms above it: the HTTP API, the command line and the mounted tree.
 *
 * Times cross this boundary as RFC 3339 strings in UTC, sizes as bytes, sequences as numbers. Every method throws
 * {@linkcode VarveError}; the interface is implemented by `src/appliance.ts`.
 *
 * @module
 */
import type { GuestFileType } from "./guestfs/guest.ts";

/** The base from which `VolumeInfo.state` is taken. */
export type VolumeState = "ready" | "baseline" | "failed";

/** A retention tier: one moment every `every`, kept `for` so long. Durations such as `15m`, `1h`, `7d`, `4w`. */
export interface RetentionTier {
  /** Distance between kept moments. */
  every: string;
  /** How long they are kept. */
  for: string;
}

/** How long history is kept. */
export interface RetentionPolicy {
  /** Every single write of this latest span is kept. */
  continuous: string;
  /** What is kept beyond it, finest first. */
  tiers: RetentionTier[];
  /** Budget for the history, in bytes. */
  maxBytes?: number;
  /** How long a dropped moment can still be taken back. */
  grace?: string;
  /**
   * What hosts meet when there is no space for more history: `refuse` says ENOSPC to their writes, `passthrough` lets
   * them write to the primary and leaves a gap in the history. Default `refuse`.
   */
  onFull?: "refuse" | "passthrough";
}

/** An exact moment of one volume. */
export interface Moment {
  /** RFC 3339 UTC with six digits: the time of the record with this sequence. */
  time: string;
  /** Sequence number; 0 is the volume as it was created or adopted. */
  seq: number;
}

/** A span in which the volume was written to and the history could not be told. */
export interface GapInfo {
  /** The last sequence before it, which is exact, and the time since when nothing is known. */
  from: Moment;
  /** The first moment that is exact again; absent while the gap is open. */
  to?: Moment;
  /** Why there is a gap. */
  reason: string;
}

/** A retained moment shown to people. */
export interface PointInfo extends Moment {
  /** Why it is shown. `created` is the start of history, `tier` a moment that retention keeps by its interval. */
  kind: "created" | "mark" | "flush" | "tier";
  /** Whether retention may never drop it. */
  pinned: boolean;
  /** Name of a mark. */
  name?: string;
  /** Note of a mark. */
  note?: string;
  /** Interval of the tier, for example `1h`. */
  tier?: string;
}

/** A mark, as made and listed. */
export interface MarkInfo extends PointInfo {
  /** Always `mark`. */
  kind: "mark";
  /** Its name, unique within the volume. */
  name: string;
}

/** What is known of one volume. */
export interface VolumeInfo {
  /** Stable identity: 32 hexadecimal digits. */
  id: string;
  /** Name, unique within the appliance. */
  name: string;
  /** Size in bytes. */
  sizeBytes: number;
  /** `baseline` while the first copy of an adopted disk is being made, `failed` when it could not be opened. */
  state: VolumeState;
  /** Why the state is `failed`. */
  error?: string;
  /** Where the live bytes are; `managed` means that Varve made the file and deletes it with the volume. */
  primary: { path: string; managed: boolean };
  /** When the volume was created or adopted. */
  createdAt: string;
  /** From the oldest reconstructable moment to the newest. */
  window: { from: Moment; to: Moment };
  /** Gaps in the window, oldest first. */
  gaps: GapInfo[];
  /** How far the first copy of an adopted disk has come; until it is complete no moment of the past can be opened. */
  baseline: { complete: boolean; doneBytes: number; totalBytes: number };
  /** Space the history takes on storage, segments and maps together. */
  historyBytes: number;
  /** Finished segments that are stored compressed: how many, their size, and what they take of it. */
  compression: { compressedSegments: number; rawBytes: number; storedBytes: number };
  /** Numbers of things. */
  counts: { marks: number; segments: number; connections: number };
  /** Newest sequence whose place is in the recovery map. */
  indexedSeq: number;
  /** Newest sequence that is durable in the primary and in the history. */
  durableSeq: number;
  /** What the last finished scrub found; left out as long as there was none. */
  scrub?: ScrubSummary;
  /**
   * Whether commands are captured, refused because the storage of the history is full, or, by policy, pass to the primary
   * while the history has a gap.
   */
  capture: "running" | "full" | "gap";
  /** Writes, trims and zeroes refused for want of space since the volume was opened. */
  refusedWrites: number;
}

/** A moment of the past that can be written to: a throw-away disk, an NBD export. */
export interface CloneInfo extends Moment {
  /** Stable identity: 32 hexadecimal digits. */
  id: string;
  /** Name, unique among clones and volumes; that of its NBD export. */
  name: string;
  /** The volume whose past it is. */
  volume: string;
  /** Size in bytes. */
  sizeBytes: number;
  /**
   * `promoting` while a volume is being made of it, `expired` when it goes as soon as its clients have gone, `failed` when
   * it cannot be used.
   */
  state: "ready" | "promoting" | "expired" | "failed";
  /** Why the state is `failed`. */
  error?: string;
  /** When it was made. */
  createdAt: string;
  /** When it goes by itself; absent for never. */
  expiresAt?: string;
  /** Data of its own that it may have at most, in bytes. */
  budgetBytes: number;
  /** Data of its own, in bytes. */
  usedBytes: number;
  /** Hosts connected to it. */
  connections: number;
}

/** What `createClone` takes. */
export interface CreateCloneRequest {
  /** The volume. */
  volume: string;
  /** A time in the grammar. */
  at: string;
  /** As a volume's; no volume and no clone may have it. */
  name: string;
  /** Data of its own that it may have at most, in bytes. Default: 10 GiB, or what can be spared when that is less. */
  budgetBytes?: number;
  /** How long until it goes by itself, such as `24h`; `false` for never. Default `24h`. */
  ttl?: string | false;
}

/** What a promotion did. */
export interface PromoteResult extends Moment {
  /** The clone. */
  clone: string;
  /** The volume that was made of it. */
  volume: string;
  /** Its size in bytes. */
  sizeBytes: number;
  /** Bytes written, without holes. */
  writtenBytes: number;
  /** How long it took, in milliseconds. */
  durationMs: number;
}

/** The appliance as a whole. */
export interface StatusInfo {
  /** Version of Varve. */
  version: string;
  /** Since when it runs. */
  startedAt: string;
  /** Where its data lies. */
  dataPath: string;
  /** Where the tree is mounted, when it is. */
  mountPath?: string;
  /** Why the tree is not mounted although it should be. */
  mountError?: string;
  /** Addresses that NBD listens on. */
  nbd: string[];
  /** Addresses that the API listens on. */
  api: string[];
  /** Space on the storage that holds the data folder. */
  storage: StorageInfo;
  /** Every volume. */
  volumes: VolumeInfo[];
  /** Every clone. */
  clones: CloneInfo[];
  /** Numbers of jobs by state. */
  jobs: Record<JobState, number>;
  /** Numbers of events since the appliance was started. */
  events: EventCount[];
}

/** Space on the storage that holds the data folder. */
export interface StorageInfo {
  /** Size of the file system. */
  totalBytes: number;
  /** Bytes that are free, the reserve not among them. */
  freeBytes: number;
  /** Bytes set aside for the work that frees space. */
  reserveBytes: number;
  /** With less than this free, history is thinned. */
  watermarkBytes: number;
  /** `low` below the watermark; `full` when writes are refused. */
  state: "ok" | "low" | "full";
}

/** How serious an event is. */
export type EventLevel = "info" | "warning" | "error";

/** How often something happened. */
export interface EventCount {
  /** How serious it is. */
  level: EventLevel;
  /** What it is. */
  kind: string;
  /** How often. */
  count: number;
}

/** Something that happened by itself and that people should know. */
export interface EventInfo {
  /** Ascending in time. */
  id: number;
  /** When. */
  time: string;
  /** How serious it is. */
  level: EventLevel;
  /** What it is, for example `storage.low` or `history.thinned`. */
  kind: string;
  /** The volume that it is about. */
  volume?: string;
  /** For people. */
  message: string;
  /** Particulars. */
  details: Record<string, unknown>;
}

/** States of a job. */
export type JobState = "queued" | "running" | "succeeded" | "failed" | "cancelled";

/** Long work that goes on in the background. */
export interface JobInfo {
  /** Identity. */
  id: string;
  /** What it does. */
  kind: "recovery" | "prune" | "scrub" | "promote";
  /** The volume it works on. */
  volume: string;
  /** Where it stands. */
  state: JobState;
  /** How far it has come; `totalBytes` may grow. */
  progress: { doneBytes: number; totalBytes: number };
  /** When it was asked for. */
  createdAt: string;
  /** When it ended. */
  endedAt?: string;
  /** What came out, by kind; see {@linkcode RecoveryResult}, {@linkcode PruneResult}, {@linkcode ScrubResult}, {@linkcode PromoteResult}. */
  result?: Record<string, unknown>;
  /** Why it failed: the members of a problem document. */
  error?: { code: string; detail: string; hint?: string };
}

/** What a recovery did. */
export interface RecoveryResult extends Moment {
  /** Where the bytes went. */
  target: string;
  /** Size of the volume at that moment. */
  sizeBytes: number;
  /** Bytes written, without holes. */
  writtenBytes: number;
  /** SHA-256 of the moment's whole content, in hexadecimal; there when `verified`. */
  sha256?: string;
  /** Whether the target was read back and its hash is the same. */
  verified: boolean;
  /** How long it took, in milliseconds. */
  durationMs: number;
}

/** What a prune did, or would do. */
export interface PruneResult {
  /** Points that people could see and that are gone. */
  pointsLost: number;
  /** Sequences that can no longer be named. */
  momentsLost: number;
  /** Bytes given back to the file system, once what is left of compressed segments is compressed again. */
  bytesFreed: number;
  /** The window afterwards. */
  window: { from: Moment; to: Moment };
}

/** A place in the stored history whose bytes cannot be proved right. */
export interface ScrubPlace {
  /** Number of the segment; left out for the recovery map. */
  segment?: number;
  /** Name of the file in the volume's folder, for example `segments/000000000007.seg`. */
  file: string;
  /** First damaged byte; left out where only the row of a database is known. */
  offset?: number;
  /** Number of bytes that cannot be proved. */
  length: number;
  /** Sequence of the record, where it could be read. */
  seq?: number;
  /** Stored versions of blocks that cannot be read because of it and that some kept moment sees. */
  blocks: number;
  /** Whether no kept moment sees anything of it. */
  harmless: boolean;
  /** What was found. */
  problem: string;
}

/** What a scrub found. */
export interface ScrubResult {
  /** When it began. */
  startedAt: string;
  /** When it had finished. */
  finishedAt: string;
  /** Bytes of segments and map that were checked. */
  checkedBytes: number;
  /** Damaged places, those that harm nothing included. */
  damagedPlaces: number;
  /** The first 1,000 of them, by file and offset. */
  places: ScrubPlace[];
  /** Damaged moments: spans of sequences of which something cannot be read, both ends included, ascending. */
  damagedSeqs: { fromSeq: number; toSeq: number }[];
  /** Whether whole moments lie between the ends of a span: there were too many spans to list each. */
  spansJoined: boolean;
  /** Damaged points. */
  damagedPoints: number;
  /** The first 1,000 of them, ascending; marks and tiers come before flushes where there are more. */
  points: PointInfo[];
  /** Whether the newest state is damaged. */
  newestDamaged: boolean;
  /** What the operator can do about it. */
  hint?: string;
}

/** A {@linkcode ScrubResult} in short. */
export type ScrubSummary = Pick<
  ScrubResult,
  "finishedAt" | "checkedBytes" | "damagedPlaces" | "damagedPoints"
>;

/** One name in a directory of the past. */
export interface FileInfo {
  /** Last part of the path; bytes that are not UTF-8 appear as U+FFFD. */
  name: string;
  /** Path from the root of the volume, beginning with `/`. With a partition table the first part is `p1`, `p2`, … */
  path: string;
  /** Kind of file. */
  type: GuestFileType;
  /** Size in bytes. */
  sizeBytes: number;
  /** Permission bits in octal, four digits, for example `0644`. */
  mode: string;
  /** Owner. */
  uid: number;
  /** Group. */
  gid: number;
  /** Hard links. */
  links: number;
  /** Inode number of the guest. */
  inode: number;
  /** Last change of content, RFC 3339 with nanoseconds as far as the guest keeps them. */
  modifiedAt: string;
  /** Target of a symbolic link. */
  target?: string;
}

/** A directory or one file, at one moment. */
export interface FileListing extends Moment {
  /** The path asked for, normalised. */
  path: string;
  /** The file itself; `entries` is there exactly for directories. */
  file: FileInfo;
  /** Names in the directory, sorted by name. */
  entries?: FileInfo[];
}

/** A file's content, streamed. */
export interface FileContent extends Moment {
  /** The file. */
  file: FileInfo;
  /** Its bytes; cancelling the stream ends the reading. */
  body: ReadableStream<Uint8Array>;
}

/** From one moment to another, both included. */
export interface MomentRange {
  /** The first. */
  from: Moment;
  /** The last. */
  until: Moment;
}

/** One version of a file, or a time without it. */
export interface FileVersionInfo extends MomentRange {
  /** The file; absent while there was none. */
  file?: FileInfo;
  /** Whether its bytes may differ from those of the version before; absent where that one is not known or had none. */
  contentChanged?: boolean;
}

/** Every version of one file. */
export interface FileVersionList {
  /** The path asked for, normalised. */
  path: string;
  /** Versions and times without the file, newest first; two neighbours are never the same. */
  versions: FileVersionInfo[];
  /** Moments at which the file cannot be read, newest first. */
  unreadable: (MomentRange & { reason: string })[];
  /** Moments between which something short-lived may have been missed, newest first. */
  unproven: MomentRange[];
  /** Whether a limit was reached: older versions may exist. */
  truncated: boolean;
}

/** Blocks that were written between two moments. */
export interface BlockChanges {
  /** The earlier moment. */
  from: Moment;
  /** The later one. */
  to: Moment;
  /** Bytes in `extents`. */
  changedBytes: number;
  /** Runs that were written after `from`, up to `to`; trims and zeroes too. */
  extents: { offset: number; length: number }[];
  /** Pass as `offset` to go on; absent on the last page. */
  nextOffset?: number;
}

/** A file that is not the same at two moments. */
export interface FileChange {
  /** What happened to it. A file that was renamed may have been changed too. */
  kind: "created" | "deleted" | "changed" | "renamed";
  /** Its path at the later moment, or for a deleted one at the earlier. */
  path: string;
  /** Its path at the earlier moment, where that was another. */
  previousPath?: string;
  /** Whether its bytes may differ. */
  contentChanged: boolean;
  /** The file at the earlier moment. */
  before?: FileInfo;
  /** The file at the later moment. */
  after?: FileInfo;
}

/** Files that are not the same at two moments. */
export interface FileChanges {
  /** The earlier moment. */
  from: Moment;
  /** The later one. */
  to: Moment;
  /** What changed. */
  changes: FileChange[];
  /** What could not be compared. */
  unreadable: { path: string; reason: string }[];
  /** Whether there are more than `limit`. */
  truncated: boolean;
}

/** Files that a directory held before, and does not hold at a moment. */
export interface DeletedFiles extends Moment {
  /** The directory, normalised. */
  path: string;
  /** Each as it was at the last moment at which it was seen; those seen last first. */
  files: { lastSeen: Moment; file: FileInfo }[];
  /** Whether a limit was reached: there may be more. */
  truncated: boolean;
}

/** A page of points, oldest first. */
export interface PointsPage {
  /** The points. */
  points: PointInfo[];
  /** Pass as `cursor` to go on; absent on the last page. */
  nextCursor?: string;
  /** Gaps that reach into the span asked for, oldest first; every page has them. Absent when there are none. */
  gaps?: GapInfo[];
}

/** What `createVolume` takes. */
export interface CreateVolumeRequest {
  /** Letters, digits, `.`, `_`, `-`; begins with a letter or digit; at most 64 characters. */
  name: string;
  /** Size in bytes; for an adopted primary it may be left out. */
  sizeBytes?: number;
  /** Where the live bytes are to be; left out: a sparse file in the data folder. */
  primary?: { path: string; adopt?: boolean };
}

/** What `resizeVolume` takes. */
export interface ResizeRequest {
  /** The new size in bytes. */
  sizeBytes: number;
  /** Make it smaller: hosts lose what lies beyond the new end, the history keeps it. */
  force?: boolean;
}

/** A connection that changed a volume, or is open to it now. */
export interface ClientEntry {
  /** Its number, which records in the segments carry; unique within the volume. */
  client: number;
  /** Address of the other end: `HOST:PORT`, or `unix`. */
  peer: string;
  /** Process at the other end of a Unix socket. */
  pid?: number;
  /** User that it ran as. */
  uid?: number;
  /** Group that it ran as. */
  gid?: number;
  /** Subject of its certificate. */
  certificate?: string;
  /** Whether the connection was encrypted. */
  tls?: boolean;
  /** When it was opened. */
  openedAt: string;
  /** Whether it is open now. */
  connected: boolean;
}

/** What `startRecovery` takes. */
export interface RecoveryRequest {
  /** A time in the grammar. */
  at: string;
  /** Path of a file or a block device. */
  target: string;
  /** Read the target back and compare hashes. */
  verify?: boolean;
  /** Write although the target is a file that is too small, or is mounted or in use; never the primary of a volume. */
  force?: boolean;
}

/** Who asks; the audit log keeps it. */
export interface Caller {
  /** `unix` for the Unix socket, else the token's name. */
  name: string;
}

/** A bearer token without its secret. */
export interface TokenInfo {
  /** Identity. */
  id: string;
  /** Name given by the administrator. */
  name: string;
  /** What it allows. */
  scopes: TokenScope[];
  /** When it was made. */
  createdAt: string;
}

/** Scopes: `admin` includes `operate`, which includes `read`. */
export type TokenScope = "read" | "operate" | "admin";

/** One change that somebody made. */
export interface AuditEntry {
  /** Position in the log. */
  id: number;
  /** When. */
  time: string;
  /** Who: `unix` or a token's name. */
  actor: string;
  /** What, for example `mark.create`. */
  action: string;
  /** On what, for example the volume's name. */
  subject: string;
  /** Particulars. */
  details: Record<string, unknown>;
}

/** Everything the rooms above may ask of the engine. */
export interface Engine {
  /** The appliance as a whole. */
  status(): StatusInfo;
  /** Whether it can serve now; `problems` says what is in the way. */
  readiness(): { ready: boolean; problems: string[] };

  /** Every volume, by name. */
  listVolumes(): VolumeInfo[];
  /** One volume. */
  getVolume(name: string): VolumeInfo;
  /** Makes or adopts a volume; an adopted one is copied in the background, and captured from then on. */
  createVolume(request: CreateVolumeRequest, caller: Caller): Promise<VolumeInfo>;
  /**
   * Gives a volume another size, while hosts use it; new connections see it, and every moment of the past keeps its own.
   * Throws `conflict` when it would shrink and `force` is not set.
   */
  resizeVolume(name: string, request: ResizeRequest, caller: Caller): Promise<VolumeInfo>;
  /**
   * Connections that changed a volume and those that are open to it, newest first. `limit` is at most 10,000, by default
   * 100.
   */
  listClients(volume: string, options: { limit?: number }): ClientEntry[];
  /** Forgets a volume; with `purge` its history and its managed primary are deleted too. */
  deleteVolume(name: string, options: { purge: boolean }, caller: Caller): Promise<void>;

  /** Finds the exact moment that an expression of the time grammar names; throws `invalid`, `not-retained`, `not-found`. */
  resolve(volume: string, expression: string): Promise<Moment>;
  /** Points of a span of time, oldest first. `kinds` left out means all; `limit` is at most 10,000. */
  listPoints(
    volume: string,
    options: { from?: string; to?: string; limit?: number; cursor?: string; kinds?: PointInfo["kind"][] },
  ): Promise<PointsPage>;
  /** Marks of a volume, oldest first. */
  listMarks(volume: string): MarkInfo[];
  /** Names the present moment; the mark is durable when this resolves. */
  createMark(
    volume: string,
    request: { name: string; note?: string; pinned?: boolean },
    caller: Caller,
  ): Promise<MarkInfo>;
  /** Changes what may change about a mark. */
  updateMark(
    volume: string,
    name: string,
    change: { note?: string; pinned?: boolean },
    caller: Caller,
  ): Promise<MarkInfo>;
  /** Takes a name away; the moment itself stays until retention drops it. */
  deleteMark(volume: string, name: string, caller: Caller): Promise<void>;

  /** The policy in force. */
  getRetention(volume: string): RetentionPolicy;
  /** Replaces the policy. Nothing is dropped until the next prune. */
  setRetention(volume: string, policy: RetentionPolicy, caller: Caller): Promise<RetentionPolicy>;
  /** What a prune under the given policy (or the one in force) would do now. */
  previewRetention(volume: string, policy?: RetentionPolicy): Promise<PruneResult>;
  /** Drops what policy does not keep, as a job. */
  startPrune(volume: string, caller: Caller): JobInfo;

  /**
   * Verifies every checksum of a volume's history, as a job; `rateBytes` limits it to so many bytes a second. Throws
   * `conflict` when a scrub of it is under way.
   */
  startScrub(volume: string, options: { rateBytes?: number }, caller: Caller): JobInfo;
  /** What the last finished scrub of a volume found; throws `not-found` when there was none. */
  lastScrub(volume: string): ScrubResult;

  /** A directory, or one file, of the past. */
  listFiles(volume: string, at: string, path: string): Promise<FileListing>;
  /** Content of a file of the past. */
  readFile(volume: string, at: string, path: string): Promise<FileContent>;

  /**
   * Every distinct version of one file in the window, newest first. `limit` counts versions: at most 1,000, by default 100;
   * `from` and `to` are times in the grammar. A last symbolic link is not followed.
   */
  listFileVersions(
    volume: string,
    path: string,
    options: { from?: string; to?: string; limit?: number },
  ): Promise<FileVersionList>;
  /** What a directory held before a moment and does not hold then. `limit` is at most 10,000, by default 1,000. */
  listDeletedFiles(
    volume: string,
    at: string,
    path: string,
    options: { limit?: number },
  ): Promise<DeletedFiles>;
  /** Blocks written between two times, from `offset` on. `limit` counts extents: at most 10,000, by default 1,000. */
  listBlockChanges(
    volume: string,
    options: { from: string; to: string; offset?: number; limit?: number },
  ): Promise<BlockChanges>;
  /** Files that differ between two times, at `path` and below. `limit` is at most 10,000, by default 1,000. */
  listFileChanges(
    volume: string,
    options: { from: string; to: string; path?: string; limit?: number },
  ): Promise<FileChanges>;

  /** Copies a moment to a target, as a job. Throws at once when the target is refused. */
  startRecovery(volume: string, request: RecoveryRequest, caller: Caller): Promise<JobInfo>;
  /** Every clone, by name. */
  listClones(): CloneInfo[];
  /** One clone. */
  getClone(name: string): CloneInfo;
  /** Makes a moment writable; the clone is there after a power cut when this resolves, and keeps the moment from prunes. */
  createClone(request: CreateCloneRequest, caller: Caller): Promise<CloneInfo>;
  /** Deletes a clone and all that is its own. Throws `conflict` while clients are connected. */
  deleteClone(name: string, caller: Caller): Promise<void>;
  /**
   * Makes a new volume with the present content of a clone, as a job. Throws `conflict` while clients are connected; the
   * clone takes none meanwhile, and stays.
   */
  promoteClone(name: string, volume: string, caller: Caller): JobInfo;

  /** Jobs, newest first. */
  listJobs(): JobInfo[];
  /** One job. */
  getJob(id: string): JobInfo;
  /** Asks a job to stop. */
  cancelJob(id: string, caller: Caller): Promise<JobInfo>;
  /** Calls back at every change of a job until it has ended or `stop` is called. */
  watchJob(id: string, onChange: (job: JobInfo) => void): { stop(): void };

  /** Makes a token; the secret is shown only here. */
  createToken(request: { name: string; scopes: TokenScope[] }, caller: Caller): TokenInfo & { token: string };
  /** Tokens without secrets. */
  listTokens(): TokenInfo[];
  /** Takes a token back. */
  revokeToken(id: string, caller: Caller): void;
  /** The token a secret belongs to, or `undefined`. */
  authenticate(secret: string): TokenInfo | undefined;
  /**
   * What happened by itself, oldest first: behind the event `after`, or without it the newest. `limit` is at most
   * 10,000, by default 100.
   */
  listEvents(options: { limit?: number; after?: number }): EventInfo[];
  /** Changes made, newest first. */
  listAudit(options: { limit?: number }): AuditEntry[];
}

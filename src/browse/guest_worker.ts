/**
 * Entry of the sandbox: guest readers in a Worker without any permission. All it can do is ask for blocks of the moments that its
 * owner has registered, and answer its owner.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { GuestDisk, GuestFileSystem, GuestStat } from "../guestfs/guest.ts";
import { openGuestDisk } from "../guestfs/mod.ts";
import type { Awaitable } from "../base/awaitable.ts";
import { Lru } from "../base/lru.ts";
import { type FileProbe, probeFile } from "./_file_probe.ts";
import { changedFiles, type ChangedFilesEnd, type FileChange } from "./changed_files.ts";
import { NotingDevice } from "./_ranges.ts";
import { BlockReader } from "./block_channel.ts";
import type {
  ComparedPart,
  DiskSummary,
  FromGuest,
  GuestCallName,
  GuestCalls,
  GuestDetails,
  GuestQuestion,
  MomentNumber,
  QuestionOf,
  ToGuest,
} from "./guest_calls.ts";
import { packEntries } from "./packed_listing.ts";
import { NewestChanges } from "./newest_changes.ts";
import { ChunkCache, RemoteDevice, type RemoteDeviceOptions } from "./remote_device.ts";

/** Moments whose file systems stay open. */
const OPEN_MAX = 16;
/** How long a comparison goes on for one question, in milliseconds, and what it tells at most. */
const SLICE_MS = 200;
const PART_CHANGES = 1000;
/** Comparisons under way. */
const COMPARISONS_MAX = 8;
/** Volumes about which something is remembered. */
const VOLUMES_MAX = 8;
/** How much of a file's beginning is told without being asked for, in bytes and in runs. */
const DETAILED_BYTES = 1024 ** 3;
const DETAILED_RUNS = 32;

interface GuestScope {
  onmessage: ((event: MessageEvent<ToGuest>) => void) | null;
  postMessage(message: FromGuest, transfer: Transferable[]): void;
}

type Remembered = Pick<RemoteDeviceOptions, "notes" | "changes">;

const scope = self as unknown as GuestScope;
const chunks = new ChunkCache();
const open = new Map<number, GuestDisk>();
const comparisons = new Lru<Comparing>(COMPARISONS_MAX);
/** What is remembered from moment to moment, by volume. */
const remembered = new Lru<Remembered>(VOLUMES_MAX);
let reader: BlockReader | undefined;

function deviceOf({ moment, seq, sizeBytes, volume }: MomentNumber): RemoteDevice {
  if (reader === undefined) {
    throw new VarveError("conflict", "read a guest's disk: there is no way to it yet");
  }
  return new RemoteDevice({ reader, moment, seq, sizeBytes, chunks, ...rememberedOf(volume) });
}

function rememberedOf(volume: string): Remembered {
  const known = remembered.get(volume) ?? { notes: new Map(), changes: new NewestChanges() };
  remembered.set(volume, known);
  return known;
}

function diskOf(number: MomentNumber): GuestDisk {
  const { moment } = number;
  const disk = open.get(moment) ?? openGuestDisk(deviceOf(number));
  open.delete(moment);
  open.set(moment, disk);
  for (const oldest of open.keys()) {
    if (open.size <= OPEN_MAX) break;
    open.delete(oldest);
  }
  return disk;
}

function summaryOf({ table, partitions }: GuestDisk): DiskSummary {
  return {
    table,
    partitions: partitions.map(({ name, pieces, fileSystem, reason, refusal }) => ({
      name,
      pieces,
      reason,
      ...(refusal === undefined ? {} : { refusal }),
      fileSystem: fileSystem === undefined ? undefined : {
        kind: fileSystem.kind,
        label: fileSystem.label,
        root: fileSystem.root,
        keepsChangeTimes: fileSystem.keepsChangeTimes,
      },
    })),
  };
}

function lookUp(fileSystem: GuestFileSystem, directory: number, name: Uint8Array): GuestStat | undefined {
  const inode = fileSystem.lookup(directory, name);
  return inode === undefined ? undefined : fileSystem.stat(inode);
}

/** Opens the disk anew, so that it is known what the answer was read from. */
function probe(moment: MomentNumber, path: string): FileProbe {
  const device = deviceOf(moment);
  return probeFile(new NotingDevice(device, device.moment), openGuestDisk, path);
}

/** What `work` answers, or nothing when the disk makes it fail. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (thrown) {
    if (thrown instanceof VarveError) return undefined;
    throw thrown;
  }
}

function detailsOf(fileSystem: GuestFileSystem, inode: number): GuestDetails {
  const stat = attempt(() => fileSystem.stat(inode));
  if (stat === undefined) return { inode };
  const xattrs = attempt(() => fileSystem.xattrs(inode));
  const target = stat.type === "symlink" ? attempt(() => fileSystem.readLink(inode)) : undefined;
  const runs = stat.type === "file" && stat.sizeBytes > 0
    ? attempt(() => fileSystem.map(inode, 0, DETAILED_BYTES).slice(0, DETAILED_RUNS))
    : undefined;
  return {
    inode,
    ...(xattrs === undefined ? {} : { xattrs }),
    ...(target === undefined ? {} : { target }),
    ...(runs === undefined ? {} : { runs }),
  };
}

function read(fileSystem: GuestFileSystem, inode: number, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  return bytes.subarray(0, fileSystem.read(inode, offset, bytes));
}

/** A comparison under way; `next` is what it is about to find. */
interface Comparing {
  readonly walk: AsyncGenerator<FileChange, ChangedFilesEnd>;
  next: Promise<IteratorResult<FileChange, ChangedFilesEnd>> | undefined;
}

async function compare(to: MomentNumber, question: QuestionOf<"compare">): Promise<ComparedPart> {
  const { comparison } = question;
  const comparing = comparisons.get(`${comparison}`) ?? beginToCompare(to, question);
  comparisons.set(`${comparison}`, comparing);
  const changes: FileChange[] = [];
  const { promise: slice, resolve: end } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => end(undefined), SLICE_MS);
  try {
    while (changes.length < PART_CHANGES) {
      comparing.next ??= comparing.walk.next();
      const step = await Promise.race([comparing.next, slice]);
      if (step === undefined) break;
      comparing.next = undefined;
      if (step.done) {
        comparisons.delete(`${comparison}`);
        return { changes, end: step.value };
      }
      changes.push(step.value);
    }
  } finally {
    clearTimeout(timer);
  }
  return { changes };
}

function beginToCompare(to: MomentNumber, { from, path, changesMax }: QuestionOf<"compare">): Comparing {
  if (from === undefined) {
    throw new VarveError("io", "compare files: the sandbox was ended meanwhile", { hint: "Try again." });
  }
  const [earlier, later] = [deviceOf(from), deviceOf(to)];
  const walk = changedFiles({
    from: { device: earlier, open: openGuestDisk },
    to: { device: later, open: openGuestDisk },
    isTouched: (ranges) =>
      ranges.some(({ offset, length }) => later.moment.newestChange(offset, length) > from.seq),
  }, { changesMax, ...(path === undefined ? {} : { path }) });
  return { walk, next: undefined };
}

function answer(
  moment: MomentNumber,
  question: GuestQuestion,
): Awaitable<GuestCalls[GuestCallName]["answer"]> {
  if (question.call === "probe") return probe(moment, question.path);
  if (question.call === "compare") return compare(moment, question);
  const disk = diskOf(moment);
  if (question.call === "describe") return summaryOf(disk);
  const fileSystem = disk.partitions[question.partition]?.fileSystem;
  if (fileSystem === undefined) throw new VarveError("not-found", "read a guest's disk: no such partition");
  switch (question.call) {
    case "space":
      return fileSystem.space;
    case "stat":
      return fileSystem.stat(question.inode);
    case "lookup":
      return lookUp(fileSystem, question.inode, question.name);
    case "list":
      return packEntries(
        fileSystem.readDirectory(question.inode),
        // A name whose inode cannot be read is listed all the same.
        (inode) => attempt(() => fileSystem.stat(inode)),
      );
    case "readLink":
      return fileSystem.readLink(question.inode);
    case "xattrs":
      return fileSystem.xattrs(question.inode);
    case "details":
      return question.inodes.map((inode) => detailsOf(fileSystem, inode));
    case "map":
      return fileSystem.map(question.inode, question.offset, question.length);
    case "read":
      return read(fileSystem, question.inode, question.offset, question.length);
  }
}

/** Whole buffers that nobody here uses any more. */
function transferable(answered: GuestCalls[GuestCallName]["answer"]): Transferable[] {
  if (typeof answered !== "object" || !("records" in answered)) return [];
  return [answered.records, answered.names];
}

async function hear(data: ToGuest): Promise<void> {
  switch (data.kind) {
    case "start":
      reader = new BlockReader(data.memory, () => data.port.postMessage(undefined));
      scope.postMessage({ ready: true }, []);
      break;
    case "forget":
      open.delete(data.moment);
      break;
    case "ask":
      try {
        const answered = await answer(data, data.question);
        scope.postMessage({ id: data.id, answer: answered }, transferable(answered));
      } catch (thrown) {
        scope.postMessage({ id: data.id, error: errorOf(thrown).toMessage() }, []);
      }
  }
}

/** Answers come in the order of the questions. */
let last = Promise.resolve();
scope.onmessage = ({ data }) => {
  last = last.then(() => hear(data));
};

/** Whatever a reader throws that it should not, such as a RangeError, is what the disk made it do. */
function errorOf(thrown: unknown): VarveError {
  if (thrown instanceof VarveError) return thrown;
  return new VarveError("damaged", `read a guest's disk: its reader failed: ${thrown}`);
}

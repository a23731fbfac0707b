/**
 * What happened to the files of a volume between two of its moments.
 *
 * Both trees are compared directory by directory from the roots. What saves work:
 * - a partition none of whose blocks was touched in between is not opened;
 * - where the guest keeps times of change, a directory whose own is the same has the same names, and is listed once;
 * - content is never read to be compared: the same file with the same size has changed if, and only if, what its map leads to has
 *   moved, or was written in between. A block that was changed and changed back counts as changed.
 *
 * A name that is gone and one that is new are the same file, renamed, when they lead to the same inode, which was not given away in
 * between: the time of its birth tells, or where the guest keeps none, its size and the time of its last change of content. A
 * directory that was renamed is told once, and compared with what it was. What is left is told when everything else was: a name
 * that leads to another file of the same type than before is `changed`, as programs replace files by writing new ones.
 *
 * Memory: the names of the directories being compared, and what is gone or new and waits for its other half, up to a limit. What
 * is beyond that is told at once, and a rename may then be told as a deletion and a creation.
 *
 * @module
 */
import type { ByteRange } from "./_ranges.ts";
import type { GuestDisk, GuestFileType, GuestPartition, GuestStat } from "../guestfs/guest.ts";
import type { BlockDevice } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { isSameLayout, joinPath, TreeSide } from "./_tree_side.ts";

/** A moment to compare. */
export interface ComparedMoment {
  /** The volume at that moment. */
  readonly device: BlockDevice;
  /** Opens what it holds. Called once, and not at all when nothing changed. */
  open(device: BlockDevice): GuestDisk;
}

/** Two moments of a volume. */
export interface ComparedMoments {
  /** The earlier one. */
  readonly from: ComparedMoment;
  /** The later one. */
  readonly to: ComparedMoment;
  /** Whether any command behind the earlier moment up to the later one touched a block of `ranges`. */
  isTouched(ranges: readonly ByteRange[]): boolean;
}

/** What happened to a file. */
export interface FileChange {
  /** `unreadable`: the path cannot be read at one of the moments, so nothing is told of what is below it. */
  readonly kind: "created" | "deleted" | "changed" | "renamed" | "unreadable";
  /** Where it is, or was when it is deleted: bytes from the root of the volume, beginning with a slash. */
  readonly path: Uint8Array;
  /** Where it was before it was renamed. */
  readonly formerPath?: Uint8Array;
  /** Type of the file. */
  readonly type: GuestFileType;
  /** What is known of it at the earlier moment. */
  readonly before?: GuestStat;
  /** What is known of it at the later moment. */
  readonly after?: GuestStat;
  /** Whether its bytes, or its target, may differ; set for `changed` and `renamed`. */
  readonly contentChanged?: boolean;
  /** Why it is unreadable. */
  readonly reason?: string;
}

/** How to compare. */
export interface ChangedFilesOptions {
  /** Only below this path, which is the same at both moments; default: all. */
  readonly path?: string;
  /** Changes told at most; default 100,000. */
  readonly changesMax?: number;
  /** Names that wait for their other half at most; default 200,000. */
  readonly waitingMax?: number;
  /** Ends it: the next step throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told now and then how many files were compared so far. */
  readonly onProgress?: (files: number) => void;
}

/** How a comparison ended. */
export interface ChangedFilesEnd {
  /** Whether there are more changes than wanted. */
  readonly truncated: boolean;
  /** Whether every rename is told as one. */
  readonly renamesComplete: boolean;
  /** Files that were compared. */
  readonly files: number;
}

const CHANGES_MAX = 100_000;
const WAITING_MAX = 200_000;
/** Depth of directories that is followed: a hostile tree may lead in circles. */
const DEPTH_MAX = 4096;
/** Files between two turns of others. */
const TURN_FILES = 4096;

/** Tells every change of a file between two moments, in no particular order; the generator's result says how complete that is. */
export async function* changedFiles(
  moments: ComparedMoments,
  options: ChangedFilesOptions = {},
): AsyncGenerator<FileChange, ChangedFilesEnd> {
  const comparison = new Comparison(moments, options);
  const { changesMax = CHANGES_MAX, signal, onProgress } = options;
  let told = 0;
  let turned = 0;
  signal?.throwIfAborted();
  for (const change of comparison.run()) {
    if (change !== undefined) {
      if (told++ === changesMax) return { ...comparison.end, truncated: true };
      yield change;
    }
    if (comparison.files - turned < TURN_FILES) continue;
    turned = comparison.files;
    onProgress?.(turned);
    await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
  }
  return { ...comparison.end, truncated: false };
}

/** A file by one of its names. */
interface Named {
  readonly side: TreeSide;
  readonly path: Uint8Array;
  readonly depth: number;
  readonly stat: GuestStat;
  /** The directory that has the name, and the name; `undefined` for where the comparison begins. */
  readonly parent: GuestStat | undefined;
  readonly name: string;
  /** Whether the names below it are among those that wait. */
  isLookedInto: boolean;
}

/** A file at both moments. */
interface Pair {
  readonly before: Named;
  readonly after: Named;
}

type Told = FileChange | undefined;

class Comparison {
  readonly #moments: ComparedMoments;
  readonly #options: ChangedFilesOptions;
  /** Directories to compare, the next one last. */
  readonly #pairs: Pair[] = [];
  /** Files whose name is gone and files whose name is new, each by inode. */
  #gone: Named[] = [];
  #fresh: Named[] = [];
  #renamesComplete = true;
  /** Directories that were looked into: a hostile tree may lead to one by many ways. */
  readonly #seen = new Set<number | string>();
  /** Files that were compared, or found at one moment alone. */
  files = 0;

  constructor(moments: ComparedMoments, options: ChangedFilesOptions) {
    this.#moments = moments;
    this.#options = options;
  }

  get end(): Omit<ChangedFilesEnd, "truncated"> {
    return { renamesComplete: this.#renamesComplete, files: this.files };
  }

  *run(): Generator<Told> {
    const { from, to, isTouched } = this.#moments;
    if (!isTouched([{ offset: 0, length: Math.max(from.device.sizeBytes, to.device.sizeBytes) }])) return;
    const [before, after] = [from, to].map((moment) => moment.open(moment.device).partitions);
    for (const name of new Set([...before ?? [], ...after ?? []].map((each) => each.name))) {
      const partitionOf = (partitions: readonly GuestPartition[] = []) =>
        partitions.find((each) => each.name === name);
      yield* this.#comparePartitions(name, partitionOf(before), partitionOf(after));
    }
  }

  *#comparePartitions(
    name: string,
    before: GuestPartition | undefined,
    after: GuestPartition | undefined,
  ): Generator<Told> {
    const { from, to, isTouched } = this.#moments;
    const pieces = [...before?.pieces ?? [], ...after?.pieces ?? []];
    const isSame = before !== undefined && after !== undefined && !isTouched(pieces);
    const wanted = (this.#options.path ?? "").split("/").filter((part) => part !== "");
    const prefix = name === "" ? [] : name.split("/");
    const isOutside = prefix.some((part, index) => index < wanted.length && wanted[index] !== part);
    if (isSame || isOutside) return;
    this.#seen.clear();
    const root: Uint8Array = new TextEncoder().encode(`/${name}`);
    const below = wanted.slice(prefix.length);
    const starts: (Named | undefined)[] = [];
    for (const [partition, device] of [[before, from.device], [after, to.device]] as const) {
      if (partition === undefined) {
        starts.push(undefined);
        continue;
      }
      const { fileSystem, reason = "" } = partition;
      if (fileSystem === undefined) {
        yield { kind: "unreadable", path: root, type: "directory", reason };
        return;
      }
      try {
        const side = new TreeSide(device, { fileSystem, pieces: partition.pieces });
        const found = side.find(below);
        const path = below.reduce(
          (at: Uint8Array, part) => joinPath(at, new TextEncoder().encode(part)),
          root,
        );
        const place = { side, path, depth: 0, parent: undefined, name: "", isLookedInto: false };
        starts.push(found === undefined ? undefined : { ...place, stat: found });
      } catch (thrown) {
        yield unreadable(root, "directory", thrown);
        return;
      }
    }
    const [one, other] = starts;
    if (one !== undefined && other !== undefined && one.stat.type === other.stat.type) {
      yield* this.#compare({ before: one, after: other });
    } else {
      if (one !== undefined) this.#gone.push(one);
      if (other !== undefined) this.#fresh.push(other);
    }
    yield* this.#finish();
  }

  /** Compares all pairs; then matches what is gone with what is new, and looks into what has no match, until nothing is left. */
  *#finish(): Generator<Told> {
    while (true) {
      for (let pair = this.#pairs.pop(); pair !== undefined; pair = this.#pairs.pop()) {
        yield* this.#compareDirectories(pair);
      }
      if (yield* this.#match()) continue;
      const [gone, fresh] = [this.#gone.filter(isUnknown), this.#fresh.filter(isUnknown)];
      if (gone.length + fresh.length === 0) break;
      for (const directory of gone) yield* this.#lookInto(directory, this.#gone);
      for (const directory of fresh) yield* this.#lookInto(directory, this.#fresh);
    }
    yield* tellLone(this.#gone, this.#fresh);
    [this.#gone, this.#fresh] = [[], []];
  }

  /** Pairs names of the same file; answers whether there were any, for then there may be more. */
  *#match(): Generator<Told, boolean> {
    const byInode = Map.groupBy(this.#gone, ({ stat }) => stat.inode);
    const matched = new Set<Named>();
    const pairs: Pair[] = [];
    for (const after of this.#fresh) {
      const same = byInode.get(after.stat.inode);
      const index = same?.findIndex((before) => isRenamed(before.stat, after.stat)) ?? -1;
      const before = same?.[index];
      if (before === undefined) continue;
      same?.splice(index, 1);
      matched.add(before).add(after);
      pairs.push({ before, after });
    }
    this.#gone = this.#gone.filter((each) => !matched.has(each));
    this.#fresh = this.#fresh.filter((each) => !matched.has(each));
    for (const pair of pairs) yield* this.#compare(pair);
    return pairs.length > 0;
  }

  *#lookInto(directory: Named, found: Named[]): Generator<Told> {
    directory.isLookedInto = true;
    if (!this.#isNew(`${found === this.#gone ? "gone" : "fresh"} ${directory.stat.inode}`)) return;
    try {
      for (const [, child] of this.#children(directory)) yield* this.#wait(child, found);
    } catch (thrown) {
      yield unreadable(directory.path, "directory", thrown);
    }
  }

  /** Puts a name that is gone or new aside, or tells of it when too many wait. */
  *#wait(named: Named, found: Named[]): Generator<Told> {
    this.files++;
    const { waitingMax = WAITING_MAX } = this.#options;
    if (this.#gone.length + this.#fresh.length < waitingMax) {
      found.push(named);
      yield undefined;
      return;
    }
    this.#renamesComplete = false;
    yield found === this.#gone ? deleted(named) : created(named);
    if (isDirectory(named)) yield* this.#lookInto(named, found);
  }

  *#compareDirectories({ before, after }: Pair): Generator<Told> {
    const [was, is] = [before.stat.inode, after.stat.inode];
    if (!this.#isNew(was === is ? is : `${was} ${is}`)) return;
    let old: Map<string, Named>;
    let now: Map<string, Named>;
    try {
      const isSame = before.side.keepsChangeTimes && after.side.keepsChangeTimes &&
        was === is && before.stat.changedNs === after.stat.changedNs;
      const entries = after.side.list(is);
      now = this.#children(after, entries);
      old = this.#children(before, isSame ? entries : undefined);
    } catch (thrown) {
      yield unreadable(after.path, "directory", thrown);
      return;
    }
    for (const [name, was] of old) {
      const is = now.get(name);
      now.delete(name);
      if (is !== undefined && isSameFile(was.stat, is.stat)) {
        this.files++;
        yield* this.#compare({ before: was, after: is });
      } else {
        yield* this.#wait(was, this.#gone);
        if (is !== undefined) yield* this.#wait(is, this.#fresh);
      }
    }
    for (const is of now.values()) yield* this.#wait(is, this.#fresh);
  }

  #isNew(key: number | string): boolean {
    const { size } = this.#seen;
    return this.#seen.add(key).size > size;
  }

  #children(directory: Named, entries = directory.side.list(directory.stat.inode)): Map<string, Named> {
    const { side, path, depth, stat: parent } = directory;
    if (depth >= DEPTH_MAX) throw new VarveError("damaged", `listing a directory: it lies ${depth} deep`);
    const children = new Map<string, Named>();
    for (const { name, key, inode } of entries) {
      const stat = side.stat(inode);
      if (stat === undefined) continue;
      const place = { side, path: joinPath(path, name), depth: depth + 1, parent, name: key };
      children.set(key, { ...place, stat, isLookedInto: false });
    }
    return children;
  }

  /** Tells how one file differs, and sees to it that what is in it is compared when it is a directory. */
  *#compare(pair: Pair): Generator<Told> {
    const { before, after } = pair;
    const { type } = after.stat;
    const isRenamed = isMoved(before, after);
    const change = { path: after.path, type, before: before.stat, after: after.stat };
    try {
      const contentChanged = this.#isContentChanged(pair);
      if (isRenamed) yield { kind: "renamed", ...change, formerPath: before.path, contentChanged };
      else if (contentChanged || hasOtherAttributes(pair)) {
        yield { kind: "changed", ...change, contentChanged };
      } else yield undefined;
    } catch (thrown) {
      yield unreadable(after.path, type, thrown);
    }
    if (type !== "directory") return;
    if (!before.isLookedInto && !after.isLookedInto) this.#pairs.push(pair);
    else if (!after.isLookedInto) yield* this.#lookInto(after, this.#fresh);
    else if (!before.isLookedInto) yield* this.#lookInto(before, this.#gone);
  }

  #isContentChanged({ before, after }: Pair): boolean {
    const [was, is] = [before.stat, after.stat];
    if (was.type !== is.type) return true;
    if (is.type === "symlink") {
      return was.changedNs !== is.changedNs && before.side.targetOf(was) !== after.side.targetOf(is);
    }
    if (is.type !== "file") return was.rdev !== is.rdev;
    if (was.sizeBytes !== is.sizeBytes) return true;
    if (is.sizeBytes === 0) return false;
    const haveTimes = before.side.keepsChangeTimes && after.side.keepsChangeTimes;
    if (haveTimes && was.changedNs === is.changedNs) {
      // The same time of change says nothing of the map: blocks that were written before may have come to the file since.
      const [old, now] = [before.side.layoutOf(was), after.side.layoutOf(is)];
      if (
        old !== undefined && now !== undefined && isSameLayout(old, now) &&
        !this.#moments.isTouched(now.blocks)
      ) {
        return false;
      }
    }
    const [one, other] = [before.side.placeOf(was), after.side.placeOf(is)];
    return one.place !== other.place || this.#moments.isTouched(other.stored) ||
      (!other.complete && was.modifiedNs !== is.modifiedNs);
  }
}

function isDirectory({ stat }: Named): boolean {
  return stat.type === "directory";
}

/** Whether it is a directory that was not yet looked into. */
function isUnknown(named: Named): boolean {
  return isDirectory(named) && !named.isLookedInto;
}

/** Whether one file has another name now, and not only a directory above it. */
function isMoved(before: Named, after: Named): boolean {
  const [was, is] = [before.parent, after.parent];
  const isParentSame = was === is || (was !== undefined && is !== undefined && isSameFile(was, is));
  return !(isParentSame && before.name === after.name) && before.path.toHex() !== after.path.toHex();
}

/** Whether two inodes of one number are one file, and not one that has the number of another that was deleted. */
function isSameFile(before: GuestStat, after: GuestStat): boolean {
  if (before.inode !== after.inode || before.type !== after.type) return false;
  if (before.bornNs !== undefined || after.bornNs !== undefined) return before.bornNs === after.bornNs;
  return true;
}

/** As `isSameFile`, of two names: what has no time of birth must look as it did. */
function isRenamed(before: GuestStat, after: GuestStat): boolean {
  if (!isSameFile(before, after)) return false;
  return before.bornNs !== undefined || before.type === "directory" ||
    (before.sizeBytes === after.sizeBytes && before.modifiedNs === after.modifiedNs);
}

/** Names come and go in a directory, and change its times, size and links: that is told of them. */
function hasOtherAttributes({ before, after }: Pair): boolean {
  const [was, is] = [before.stat, after.stat];
  if (was.mode !== is.mode || was.uid !== is.uid || was.gid !== is.gid) return true;
  const isTimeSame = was.changedNs === is.changedNs && was.modifiedNs === is.modifiedNs;
  if (is.type !== "directory") return !isTimeSame || was.links !== is.links;
  return !isTimeSame && before.side.xattrsOf(was) !== after.side.xattrsOf(is);
}

function created({ path, stat }: Named): FileChange {
  return { kind: "created", path, type: stat.type, after: stat };
}

function deleted({ path, stat }: Named): FileChange {
  return { kind: "deleted", path, type: stat.type, before: stat };
}

function unreadable(path: Uint8Array, type: GuestFileType, thrown: unknown): FileChange {
  if (!(thrown instanceof VarveError)) throw thrown;
  return { kind: "unreadable", path, type, reason: thrown.message };
}

/** What had no match: a name that leads to another file of its type was replaced. */
function* tellLone(allGone: readonly Named[], allFresh: readonly Named[]): Generator<Told> {
  const key = ({ path, stat }: Named) => `${stat.type} ${path.toHex()}`;
  const gone = new Map(allGone.map((each) => [key(each), each]));
  for (const after of allFresh) {
    const before = gone.get(key(after));
    gone.delete(key(after));
    if (before === undefined) yield created(after);
    else {
      const { path, stat } = after;
      yield {
        kind: "changed",
        path,
        type: stat.type,
        before: before.stat,
        after: stat,
        contentChanged: stat.type !== "directory",
      };
    }
  }
  for (const before of gone.values()) yield deleted(before);
}

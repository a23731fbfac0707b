/**
 * The tree that Varve shows: volumes, their points, marks, times and images.
 *
 * ```
 * <volume>/points/<time>/…     the files at a point that retention keeps for people
 * <volume>/marks/<name>        -> ../points/<time>
 * <volume>/at/<expression>/…   the files at any time, resolved on look-up, never listed
 * <volume>/images/<time>.img   the raw disk
 * <volume>/README
 * ```
 *
 * Each moment's folder also has a hidden one with versions of its files and what was deleted, see `version_nodes.ts`.
 *
 * What lies below a moment never changes, and the kernel may keep it. What leads to a moment may change: see
 * {@linkcode secondsOf}; a volume's name is kept for {@linkcode VOLUME_SECONDS}.
 *
 * @module
 */
import { VarveError } from "../src/base/errors.ts";
import type { Moment } from "../src/engine.ts";
import type { Attributes, DirectoryNode, FileSystem, Found, ListedName, SymlinkNode } from "./filesystem.ts";
import { type FolderLook, MomentFolder } from "./guest_nodes.ts";
import { ImageFile } from "./image_node.ts";
import { Lru } from "../src/base/lru.ts";
import { MomentStore, type PastMoment } from "./moment_store.ts";
import { isRfc3339, PointNames } from "./point_names.ts";
import type { TreeSource, TreeVolume } from "./tree_source.ts";
import {
  FixedDirectory,
  foundNode,
  nameBytes,
  nameText,
  nanosecondsOf,
  ownAttributes,
  TextFile,
} from "./virtual.ts";
import { HIDDEN_NAME, hiddenFolder, type HiddenSource, type RememberedAnswer } from "./version_nodes.ts";
import { volumeReadme } from "./volume_readme.ts";

/** How long the kernel may keep the name of a volume, in seconds. */
const VOLUME_SECONDS = 1;
/** How long a listing of points serves look-ups of the names in it, in milliseconds. */
const LISTING_MS = 1000;
/** How long the kernel may keep a name that always means the same moment, and one that does not, in seconds. */
const EXACT_SECONDS = 1;
const FLEETING_SECONDS = 0.005;
/** How long after its time a moment may still get company in its millisecond, in milliseconds of two clocks that differ. */
const SETTLED_MS = 10_000;
/** How many moments have their attributes remembered. */
const REMEMBERED_MOMENTS = 10_000;
/** How many lists of versions and of deleted files are remembered. */
const REMEMBERED_ANSWERS = 32;
const IMAGE_SUFFIX = ".img";

/** What {@linkcode makeTree} takes besides the source of history. */
export interface TreeOptions {
  /** How many moments stay open. Default 64. */
  openMoments?: number;
  /** A monotonic clock in milliseconds. Default `performance.now`. */
  nowMs?: () => number;
}

/** Makes the tree over a source of history. */
export function makeTree(source: TreeSource, options: TreeOptions = {}): FileSystem {
  const { openMoments, nowMs = () => performance.now() } = options;
  const moments = new MomentStore({
    source,
    ...(openMoments === undefined ? {} : { limit: openMoments }),
  });
  const shared: Shared = {
    source,
    nowMs,
    moments,
    folders: new Lru(REMEMBERED_MOMENTS),
    images: new Lru(REMEMBERED_MOMENTS),
    answers: new Lru(REMEMBERED_ANSWERS),
  };
  return { root: new VolumesDirectory(shared), close: () => moments.close() };
}

/** What all nodes of one tree share. */
interface Shared {
  readonly source: TreeSource;
  readonly nowMs: () => number;
  readonly moments: MomentStore;
  readonly folders: Lru<FolderLook>;
  readonly images: Lru<Attributes>;
  readonly answers: Lru<RememberedAnswer>;
}

/** A folder of Varve's own whose names come and go. */
abstract class ChangingDirectory implements DirectoryNode {
  readonly kind = "directory";
  readonly immutable = false;
  readonly attributeSeconds: number = VOLUME_SECONDS;
  readonly key: string;
  readonly #timeNs: bigint;

  constructor(key: string, timeNs: bigint) {
    this.key = key;
    this.#timeNs = timeNs;
  }

  attributes(): Attributes {
    return ownAttributes(this.key, { type: "directory", mode: 0o755, timeNs: this.#timeNs });
  }

  async lookup(name: Uint8Array): Promise<Found | undefined> {
    const text = nameText(name);
    return text === undefined ? undefined : await this.find(text);
  }

  abstract find(name: string): Promise<Found | undefined>;
  abstract list(): Promise<ListedName[]>;
}

/** The top of the tree. */
class VolumesDirectory extends ChangingDirectory {
  readonly #shared: Shared;

  constructor(shared: Shared) {
    super("", BigInt(Date.now()) * 1_000_000n);
    this.#shared = shared;
  }

  override async find(name: string): Promise<Found | undefined> {
    const volume = (await this.#shared.source.listVolumes()).find((each) => each.name === name);
    return volume === undefined
      ? undefined
      : await foundNode(volumeDirectory(this.#shared, volume), VOLUME_SECONDS);
  }

  override async list(): Promise<ListedName[]> {
    return (await this.#shared.source.listVolumes()).map(({ name }) => listedName(name, "directory"));
  }
}

function volumeDirectory(shared: Shared, info: TreeVolume): DirectoryNode {
  const volume = new Volume(shared, info);
  return new FixedDirectory(volume.key(), {
    immutable: false,
    timeNs: volume.createdNs,
    children: {
      README: new TextFile(volume.key("README"), volume.createdNs, () => volume.readme()),
      at: new AtDirectory(volume, "at"),
      images: new ImagesDirectory(volume, "images"),
      marks: new MarksDirectory(volume, "marks"),
      points: new PointsDirectory(volume, "points"),
    },
  });
}

/** One volume and what was learnt of it. */
class Volume {
  readonly createdNs: bigint;
  readonly #shared: Shared;
  readonly #info: TreeVolume;
  #listing: { readonly names: PointNames; readonly atMs: number; readonly wallMs: number } | undefined;

  constructor(shared: Shared, info: TreeVolume) {
    this.#shared = shared;
    this.#info = info;
    this.createdNs = nanosecondsOf(info.createdAt);
  }

  key(...parts: string[]): string {
    return ["volume", this.#info.name, this.#info.createdAt, ...parts].join("\0");
  }

  /** The points as they are now. */
  async points(): Promise<PointNames> {
    const names = new PointNames(await this.#shared.source.listPoints(this.#info.name));
    this.#listing = { names, atMs: this.#shared.nowMs(), wallMs: Date.now() };
    return names;
  }

  /** The points as they were a moment ago, at most. Good for a name that stands in it, not for its absence. */
  recentPoints(): PointNames | undefined {
    const listing = this.#listing;
    return listing !== undefined && this.#shared.nowMs() - listing.atMs < LISTING_MS
      ? listing.names
      : undefined;
  }

  /**
   * The moment of a name that was listed. However long ago that was, it means the same, unless the moment was then so young that
   * its millisecond may have got another point.
   */
  #listedMoment(name: string): Moment | undefined {
    const recent = this.recentPoints()?.moment(name);
    if (recent !== undefined) return recent;
    const listing = this.#listing;
    const known = listing?.names.moment(name);
    if (listing === undefined || known === undefined) return undefined;
    return Date.parse(known.time) < listing.wallMs - SETTLED_MS ? known : undefined;
  }

  /** The moment of an expression; `undefined` when there is none, whatever the reason. */
  resolve(expression: string): Promise<Moment | undefined> {
    return orNone(this.#shared.source.resolve(this.#info.name, expression));
  }

  /** The moment of a time as `points/` and `images/` spell it, listed or not. */
  async momentOfTime(name: string): Promise<Moment | undefined> {
    if (!isRfc3339(name)) return undefined;
    const listed = this.#listedMoment(name);
    if (listed !== undefined) return listed;
    const marks = new PointNames(await orNone(this.#shared.source.listMarksOf(this.#info.name, name)) ?? []);
    // Where several marks lie in one millisecond, that millisecond alone must not lead to yet another moment.
    return marks.moment(name) ?? (marks.isAmbiguous(name) ? undefined : await this.resolve(name));
  }

  /** The folder of a moment. One that cannot be opened yet is shown by another node, which says why and is not kept. */
  async folder(moment: Moment, path: string, nameSeconds: number): Promise<Found> {
    const past = this.#past(moment);
    const folder = this.#momentFolder(past, path);
    try {
      return await foundNode(folder, nameSeconds);
    } catch (thrown) {
      if (!(thrown instanceof VarveError) || thrown.code !== "conflict") throw thrown;
      return await foundNode(notYetFolder(folder.key, past.timeNs, thrown), 0);
    }
  }

  #momentFolder(past: PastMoment, path: string): MomentFolder {
    const folder: MomentFolder = new MomentFolder({
      ...this.#shared,
      moment: past,
      path,
      hidden: { name: HIDDEN_NAME, node: () => hiddenFolder(this.#hiddenSource(past, folder)) },
    });
    return folder;
  }

  #hiddenSource(past: PastMoment, folder: MomentFolder): HiddenSource {
    const { source, answers, nowMs } = this.#shared;
    const { name } = this.#info;
    return {
      key: folder.key,
      timeNs: past.timeNs,
      versions: (path) => source.versions(name, path),
      deleted: (path) => source.deleted(name, past.seq, path),
      find: (path, moment) =>
        findBelow(
          moment === undefined ? folder : this.#momentFolder(this.#past(moment), `seq:${moment.seq}`),
          path,
        ),
      answers,
      nowMs,
    };
  }

  image(moment: Moment): ImageFile {
    return new ImageFile(this.#past(moment), this.#shared.moments, this.#shared.images);
  }

  #past({ seq, time }: Moment): PastMoment {
    const { name, createdAt } = this.#info;
    return { volume: name, createdAt, seq, timeNs: nanosecondsOf(time) };
  }

  async readme(): Promise<string> {
    const [info, points] = await Promise.all([this.#shared.source.describe(this.#info.name), this.points()]);
    return volumeReadme(info, points.size);
  }
}

/** Nothing where what was asked for does not exist. */
async function orNone<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (thrown) {
    if (thrown instanceof VarveError && ["invalid", "not-found", "not-retained"].includes(thrown.code)) {
      return undefined;
    }
    throw thrown;
  }
}

/** The node at a path below a folder; symbolic links are not followed. */
async function findBelow(folder: DirectoryNode, path: string): Promise<Found | undefined> {
  let found = await foundNode(folder, 0);
  for (const name of path.split("/").filter((part) => part !== "")) {
    if (found.node.kind !== "directory") return undefined;
    const next = await found.node.lookup(nameBytes(name));
    if (next === undefined) return undefined;
    found = next;
  }
  return found;
}

function notYetFolder(folderKey: string, timeNs: bigint, reason: VarveError): DirectoryNode {
  const key = `${folderKey}\0not yet`;
  const text = `This moment cannot be opened yet: ${reason.message}\n${
    reason.hint ? `${reason.hint}\n` : ""
  }`;
  return new FixedDirectory(key, {
    immutable: false,
    timeNs,
    children: { README: new TextFile(`${key}\0README`, timeNs, () => text) },
  });
}

abstract class VolumePart extends ChangingDirectory {
  protected readonly volume: Volume;

  constructor(volume: Volume, name: string) {
    super(volume.key(name), volume.createdNs);
    this.volume = volume;
  }
}

class PointsDirectory extends VolumePart {
  override async find(name: string): Promise<Found | undefined> {
    const moment = await this.volume.momentOfTime(name);
    return moment === undefined
      ? undefined
      : await this.volume.folder(moment, `points/${name}`, secondsOf(name));
  }

  override async list(): Promise<ListedName[]> {
    return Array.from((await this.volume.points()).names(), ([name]) => listedName(name, "directory"));
  }
}

class AtDirectory extends VolumePart {
  override async find(expression: string): Promise<Found | undefined> {
    const moment = await this.volume.resolve(expression);
    return moment === undefined
      ? undefined
      : await this.volume.folder(moment, `at/${expression}`, secondsOf(expression));
  }

  override list(): Promise<ListedName[]> {
    return Promise.resolve([]);
  }
}

class ImagesDirectory extends VolumePart {
  override async find(name: string): Promise<Found | undefined> {
    if (!name.endsWith(IMAGE_SUFFIX)) return undefined;
    const moment = await this.#moment(name.slice(0, -IMAGE_SUFFIX.length));
    const seconds = secondsOf(name.slice(0, -IMAGE_SUFFIX.length));
    return moment === undefined ? undefined : await foundNode(this.volume.image(moment), seconds);
  }

  #moment(expression: string): Promise<Moment | undefined> {
    return /^(mark|seq):/.test(expression)
      ? this.volume.resolve(expression)
      : this.volume.momentOfTime(expression);
  }

  override async list(): Promise<ListedName[]> {
    return Array.from(
      (await this.volume.points()).names(),
      ([name]) => listedName(name + IMAGE_SUFFIX, "file"),
    );
  }
}

class MarksDirectory extends VolumePart {
  override async find(name: string): Promise<Found | undefined> {
    const moment = await this.volume.resolve(`mark:${name}`);
    if (moment === undefined) return undefined;
    const points = this.volume.recentPoints();
    const known = points?.name(moment.seq) === undefined ? await this.volume.points() : points;
    return foundMark(this.volume, { ...moment, name }, known);
  }

  override async list(): Promise<ListedName[]> {
    const points = await this.volume.points();
    return points.marks().filter(({ name }) => isPathPart(name)).map((mark) => ({
      ...listedName(mark.name, "symlink"),
      found: () => foundMark(this.volume, mark, points),
    }));
  }
}

function foundMark(volume: Volume, mark: Moment & { name: string }, points: PointNames | undefined): Found {
  const listed = points?.name(mark.seq);
  const target = nameBytes(listed === undefined ? `../at/seq:${mark.seq}` : `../points/${listed}`);
  const key = volume.key("marks", mark.name, `${mark.seq}`, `${listed}`);
  const attributes = {
    ...ownAttributes(key, { type: "symlink", mode: 0o777, timeNs: nanosecondsOf(mark.time) }),
    sizeBytes: target.length,
  };
  const node: SymlinkNode = {
    kind: "symlink",
    key,
    attributeSeconds: VOLUME_SECONDS,
    attributes: () => attributes,
    target: () => target,
  };
  return { node, attributes, nameSeconds: 0 };
}

/**
 * How long the kernel may keep a name that leads to a moment, in seconds. A sequence, and a time that lies behind us, always mean the
 * same; what else there is moves on, but programs that look at one file after the other by its whole path are to stay in one moment
 * for longer than an instant.
 */
function secondsOf(expression: string): number {
  const isBehind = isRfc3339(expression) && Date.parse(expression) < Date.now() - SETTLED_MS;
  return isBehind || expression.startsWith("seq:") ? EXACT_SECONDS : FLEETING_SECONDS;
}

function listedName(name: string, type: "directory" | "file" | "symlink"): ListedName {
  return { name: nameBytes(name), inode: undefined, type };
}

function isPathPart(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !/[/\0]/.test(name);
}

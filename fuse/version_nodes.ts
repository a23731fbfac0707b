/**
 * What each moment's folder holds without listing it: every version of its files, and what was deleted before.
 *
 * ```
 * .varve/versions/<path>/<time>   the file at <path> as it was from <time> on, one name for each version in the window
 * .varve/deleted/<path>           what the folder at <path> held before this moment and does not hold at it, as it was last
 * .varve/README
 * ```
 *
 * It is found by its name alone, so that a copy of the folder is a copy of the guest's files. Names that are not UTF-8 are not found
 * here.
 *
 * @module
 */
import { VarveError } from "../src/base/errors.ts";
import type { Lru } from "../src/base/lru.ts";
import type { DeletedFiles, FileVersionList, Moment } from "../src/engine.ts";
import type { Attributes, DirectoryNode, Found, ListedName } from "./filesystem.ts";
import { PointNames } from "./point_names.ts";
import { FixedDirectory, foundNode, nameBytes, nameText, ownAttributes, TextFile } from "./virtual.ts";

/** Name of the folder. */
export const HIDDEN_NAME = ".varve";

/** How long an answer serves those who ask again, in milliseconds. */
const ANSWER_MS = 2000;

const README =
  `versions/PATH/TIME   the file at PATH as it was from TIME on: one name for each version in the window
deleted/PATH         what the folder at PATH held before this moment and holds no more, as it was last

Both are worked out when they are listed. PATH is as in the folder above, with p1/, p2/, ... before it where the
disk has partitions. "varve versions" and "varve ls --deleted" tell more.
`;

/** An answer that is remembered for a while. */
export interface RememberedAnswer {
  /** What was answered, now or later. */
  readonly value: Promise<FileVersionList> | Promise<DeletedFiles>;
  /** When that was asked. */
  readonly atMs: number;
}

/** What these folders are made from. */
export interface HiddenSource {
  /** Key of the moment's folder. */
  readonly key: string;
  /** Time of the moment, in nanoseconds since 1970. */
  readonly timeNs: bigint;
  /** Every version of a file. */
  versions(path: string): Promise<FileVersionList>;
  /** What a folder held before this moment. */
  deleted(path: string): Promise<DeletedFiles>;
  /** The node at a path of a moment; of this one when none is given. */
  find(path: string, moment?: Moment): Promise<Found | undefined>;
  /** Answers of all moments. */
  readonly answers: Lru<RememberedAnswer>;
  /** A monotonic clock in milliseconds. */
  nowMs(): number;
}

/** The folder itself. */
export function hiddenFolder(source: HiddenSource): DirectoryNode {
  const key = `${source.key}\0${HIDDEN_NAME}`;
  return new FixedDirectory(key, {
    immutable: false,
    timeNs: source.timeNs,
    children: {
      README: new TextFile(`${key}\0README`, source.timeNs, () => README),
      deleted: new DeletedFolder(source, "/"),
      versions: new VersionsFolder(source, "/"),
    },
  });
}

abstract class HiddenDirectory implements DirectoryNode {
  readonly kind = "directory";
  readonly immutable = false;
  readonly attributeSeconds = 1;
  readonly key: string;
  protected readonly source: HiddenSource;
  protected readonly path: string;

  constructor(source: HiddenSource, kind: string, path: string) {
    this.source = source;
    this.path = path;
    this.key = [source.key, HIDDEN_NAME, kind, path].join("\0");
  }

  attributes(): Attributes {
    const { timeNs } = this.source;
    // It leads around the modes of the folders on the way, so it is for whoever runs the appliance alone.
    return ownAttributes(this.key, { type: "directory", mode: 0o700, timeNs });
  }

  async lookup(name: Uint8Array): Promise<Found | undefined> {
    const text = nameText(name);
    return text === undefined ? undefined : await this.find(text);
  }

  protected below(name: string): string {
    return this.path === "/" ? `/${name}` : `${this.path}/${name}`;
  }

  protected async versions(path: string): Promise<FileVersionList> {
    return await this.#answer(`versions\0${path}`, () => this.source.versions(path)) as FileVersionList;
  }

  protected async deleted(): Promise<DeletedFiles["files"]> {
    const ask = () => this.source.deleted(this.path);
    return (await this.#answer(`deleted\0${this.path}`, ask) as DeletedFiles).files;
  }

  async #answer(name: string, ask: () => RememberedAnswer["value"]): Promise<FileVersionList | DeletedFiles> {
    const { answers, key, nowMs } = this.source;
    const known = answers.get(`${key}\0${name}`);
    if (known !== undefined && nowMs() - known.atMs < ANSWER_MS) return await known.value;
    const value = ask();
    answers.set(`${key}\0${name}`, { value, atMs: nowMs() });
    return await value;
  }

  abstract find(name: string): Promise<Found | undefined>;
  abstract list(): Promise<ListedName[]>;
}

/** Folders lead to folders, files to their versions. */
class VersionsFolder extends HiddenDirectory {
  constructor(source: HiddenSource, path: string) {
    super(source, "versions", path);
  }

  async find(name: string): Promise<Found | undefined> {
    const path = this.below(name);
    const isFolder = await this.#isFolder(path);
    if (isFolder === undefined) return undefined;
    return await foundNode(
      isFolder ? new VersionsFolder(this.source, path) : new FileVersions(this.source, path),
      1,
    );
  }

  /** Whether a path is a folder at this moment, or was last; `undefined` when nothing was ever there. */
  async #isFolder(path: string): Promise<boolean | undefined> {
    const here = await this.source.find(path);
    if (here !== undefined) return here.node.kind === "directory";
    const { versions } = await orNothing(this.versions(path)) ?? { versions: [] };
    const last = versions.find(({ file }) => file !== undefined)?.file;
    return last === undefined ? undefined : last.type === "directory";
  }

  async list(): Promise<ListedName[]> {
    const here = await this.source.find(this.path);
    const names = here?.node.kind === "directory" ? (await here.node.list()).map(({ name }) => name) : [];
    const known = new Set(names.map((name) => nameText(name)));
    const gone = (await this.deleted()).map(({ file }) => file.name).filter((name) => !known.has(name));
    return [...names, ...gone.map(nameBytes)].map((name) => ({ name, inode: undefined, type: "directory" }));
  }
}

/** One name for each version of a file: the time from which on it was there. */
class FileVersions extends HiddenDirectory {
  constructor(source: HiddenSource, path: string) {
    super(source, "file", path);
  }

  async #names(): Promise<PointNames> {
    const { versions } = await this.versions(this.path);
    const present = versions.filter(({ file }) => file !== undefined).toReversed();
    return new PointNames(present.map(({ from }) => ({ ...from, kind: "tier", pinned: false })));
  }

  async find(name: string): Promise<Found | undefined> {
    const moment = (await this.#names()).moment(name);
    return moment === undefined ? undefined : await this.source.find(this.path, moment);
  }

  async list(): Promise<ListedName[]> {
    return Array.from((await this.#names()).names(), ([name]) => ({
      name: nameBytes(name),
      inode: undefined,
      type: undefined,
    }));
  }
}

/** What a folder held before. Folders that are still there lead on, without being listed. */
class DeletedFolder extends HiddenDirectory {
  constructor(source: HiddenSource, path: string) {
    super(source, "deleted", path);
  }

  async find(name: string): Promise<Found | undefined> {
    const path = this.below(name);
    const here = await this.source.find(path);
    if (here !== undefined) {
      return here.node.kind === "directory"
        ? await foundNode(new DeletedFolder(this.source, path), 1)
        : undefined;
    }
    const deleted = (await this.deleted()).find(({ file }) => file.name === name);
    return deleted === undefined ? undefined : await this.source.find(path, deleted.lastSeen);
  }

  async list(): Promise<ListedName[]> {
    return (await this.deleted()).map(({ file }) => ({
      name: nameBytes(file.name),
      inode: undefined,
      type: file.type,
    }));
  }
}

/** Nothing for what the path makes impossible. */
async function orNothing<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (thrown) {
    if (thrown instanceof VarveError && ["invalid", "not-found"].includes(thrown.code)) return undefined;
    throw thrown;
  }
}

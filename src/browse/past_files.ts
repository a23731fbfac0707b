/**
 * Files of one moment by path, across the partitions of a volume.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { FileInfo } from "../engine.ts";
import type { GuestStat } from "../guestfs/guest.ts";
import { fileInfo } from "./file_info.ts";
import type { PastDisk, PastFileSystem, PastPartition } from "./past_file_system.ts";

/** Symbolic links followed at most on the way to a file. */
const LINKS_MAX = 40;

/** A file that a path led to. */
export interface FoundFile {
  /** What is known of it. */
  readonly file: FileInfo;
  /** Where it is; `undefined` for the folder of partitions. */
  readonly place: { readonly system: PastFileSystem; readonly inode: number } | undefined;
}

interface Step {
  readonly system: PastFileSystem;
  readonly stat: GuestStat;
  readonly path: string;
}

/** The files of one moment. Every method rejects with `VarveError`. */
export class PastFiles {
  readonly #disk: PastDisk;

  /** Files of `disk`. */
  constructor(disk: PastDisk) {
    this.#disk = disk;
  }

  /** The file at a path; `follow` a last symbolic link. Links never lead out of their partition. */
  async find(path: string, options: { follow: boolean }): Promise<FoundFile> {
    const parts = path.split("/").filter((part) => part !== "" && part !== ".");
    const taken = this.#partitionParts(parts);
    const name = parts.splice(0, taken).join("/");
    const partition = this.#disk.partitions.find((each) => each.name === name);
    if (partition === undefined && parts.length === 0) {
      return { file: folderOfPartitions(name), place: undefined };
    }
    const root = await this.#root(partition, name === "" ? parts[0] ?? "" : name);
    const step = await this.#walk(root, parts, path, options.follow);
    return { file: await describe(step), place: { system: step.system, inode: step.stat.inode } };
  }

  /** How many parts of a path name a partition, or a folder of some. */
  #partitionParts(parts: readonly string[]): number {
    const names = this.#disk.partitions.map(({ name }) => name);
    for (let count = parts.length; count > 0; count--) {
      const prefix = parts.slice(0, count).join("/");
      if (names.some((name) => name === prefix || name.startsWith(`${prefix}/`))) return count;
    }
    return 0;
  }

  async #root(found: PastPartition | undefined, name: string): Promise<Step> {
    if (found === undefined) {
      throw new VarveError("not-found", `find partition ${name}: the volume has ${this.#names()}`, {
        field: "path",
      });
    }
    const path = `/${found.name}`;
    if (found.fileSystem === undefined) {
      throw new VarveError(
        "unsupported",
        `read ${path}: ${found.reason ?? "no file system is known there"}`,
        {
          hint: "The moment can still be recovered, exported over NBD, or read under images/.",
        },
      );
    }
    return { system: found.fileSystem, stat: await found.fileSystem.stat(found.fileSystem.root), path };
  }

  #names(): string {
    return this.#disk.partitions.map((partition) => partition.name).join(", ") || "no partitions";
  }

  async #walk(root: Step, wanted: string[], path: string, follow: boolean): Promise<Step> {
    const trail: Step[] = [root];
    const parts = [...wanted];
    let links = 0;
    for (let name = parts.shift(); name !== undefined; name = parts.shift()) {
      const at = trail.at(-1) ?? root;
      if (at.stat.type !== "directory") throw notThere(path, `${at.path} is no directory`);
      if (name === "..") {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const stat = await at.system.lookup(at.stat.inode, new TextEncoder().encode(name));
      if (stat === undefined) throw notThere(path, `${at.path} holds no ${name}`);
      const next = {
        system: at.system,
        stat,
        path: at.path.endsWith("/") ? at.path + name : `${at.path}/${name}`,
      };
      if (stat.type !== "symlink" || (parts.length === 0 && !follow)) {
        trail.push(next);
        continue;
      }
      if (++links > LINKS_MAX) throw new VarveError("invalid", `find ${path}: too many symbolic links`);
      const target = new TextDecoder().decode(await at.system.readLink(stat.inode));
      if (target.startsWith("/")) trail.length = 1;
      parts.unshift(...target.split("/").filter((part) => part !== "" && part !== "."));
    }
    return trail.at(-1) ?? root;
  }

  /** What a directory holds, sorted by name. */
  async entries(found: FoundFile): Promise<FileInfo[]> {
    const { place } = found;
    const base = found.file.path.endsWith("/") ? found.file.path : `${found.file.path}/`;
    const entries: FileInfo[] = [];
    if (place === undefined) {
      for (const path of this.#below(base)) {
        const name = path.slice(1);
        const isReadable = this.#disk.partitions.some((each) =>
          each.name === name && each.fileSystem !== undefined
        );
        entries.push(isReadable ? (await this.find(path, { follow: false })).file : folderOfPartitions(name));
      }
      return entries;
    }
    const { system } = place;
    const listing = await system.list(place.inode);
    for (let index = 0; index < listing.length; index++) {
      const { name, inode, stat } = listing.at(index);
      // What could not be read with the others says why when it is asked for alone.
      entries.push(
        await describe({ system, path: base + decode(name), stat: stat ?? await system.stat(inode) }),
      );
    }
    return entries.sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  }

  /** Paths of the partitions, and of folders of them, right below a path that ends in a slash. */
  #below(base: string): string[] {
    const names = this.#disk.partitions.map(({ name }) => `/${name}`).filter((path) => path.startsWith(base));
    return [...new Set(names.map((path) => base + (path.slice(base.length).split("/")[0] ?? "")))];
  }

  /** Bytes of a file from `offset` on, fewer than `length` only at its end. */
  async read(found: FoundFile, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    const { place, file } = found;
    if (place === undefined || file.type !== "file") {
      throw new VarveError("invalid", `read ${file.path}: it is a ${file.type}, not a file`, {
        field: "path",
      });
    }
    const bytes = new Uint8Array(Math.max(0, Math.min(length, file.sizeBytes - offset)));
    return bytes.subarray(0, await place.system.read(place.inode, offset, bytes));
  }
}

function notThere(path: string, found: string): VarveError {
  return new VarveError("not-found", `find ${path}: ${found} at that moment`, { field: "path" });
}

function decode(name: Uint8Array): string {
  return new TextDecoder().decode(name);
}

function folderOfPartitions(name: string): FileInfo {
  return {
    name: name.slice(name.lastIndexOf("/") + 1),
    path: `/${name}`,
    type: "directory",
    sizeBytes: 0,
    mode: "0755",
    uid: 0,
    gid: 0,
    links: 1,
    inode: 0,
    modifiedAt: "1970-01-01T00:00:00Z",
  };
}

async function describe({ system, stat, path }: Step): Promise<FileInfo> {
  return fileInfo(path, stat, stat.type === "symlink" ? await system.readLink(stat.inode) : undefined);
}

/**
 * Files of one moment by path, across the partitions of a volume.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { FileInfo } from "../engine.ts";
import type { GuestDisk, GuestFileSystem, GuestStat } from "../guestfs/guest.ts";

/** Symbolic links followed at most on the way to a file. */
const LINKS_MAX = 40;

/** A file that a path led to. */
export interface FoundFile {
  /** What is known of it. */
  readonly file: FileInfo;
  /** Where it is; `undefined` for the folder of partitions. */
  readonly place: { readonly system: GuestFileSystem; readonly inode: number } | undefined;
}

interface Step {
  readonly system: GuestFileSystem;
  readonly inode: number;
  readonly path: string;
}

/** The files of one moment. Every method throws `VarveError`. */
export class PastFiles {
  readonly #disk: GuestDisk;

  /** Files of `disk`. */
  constructor(disk: GuestDisk) {
    this.#disk = disk;
  }

  /** The file at a path; `follow` a last symbolic link. Links never lead out of their partition. */
  find(path: string, options: { follow: boolean }): FoundFile {
    const parts = path.split("/").filter((part) => part !== "" && part !== ".");
    let root: Step;
    if (this.#disk.table === "none") root = this.#root("", "/");
    else {
      const partition = parts.shift();
      if (partition === undefined) return { file: folderOfPartitions(), place: undefined };
      root = this.#root(partition, `/${partition}`);
    }
    const step = this.#walk(root, parts, path, options.follow);
    return { file: describe(step), place: step };
  }

  #root(partition: string, path: string): Step {
    const found = this.#disk.partitions.find((each) => each.name === partition);
    if (found === undefined) {
      throw new VarveError("not-found", `find partition ${partition}: the volume has ${this.#names()}`, {
        field: "path",
      });
    }
    if (found.fileSystem === undefined) {
      throw new VarveError(
        "unsupported",
        `read ${path}: ${found.reason ?? "no file system is known there"}`,
        {
          hint: "The moment can still be recovered, exported over NBD, or read under images/.",
        },
      );
    }
    return { system: found.fileSystem, inode: found.fileSystem.root, path };
  }

  #names(): string {
    return this.#disk.partitions.map((partition) => partition.name).join(", ") || "no partitions";
  }

  #walk(root: Step, wanted: string[], path: string, follow: boolean): Step {
    const trail: Step[] = [root];
    const parts = [...wanted];
    let links = 0;
    for (let name = parts.shift(); name !== undefined; name = parts.shift()) {
      const at = trail.at(-1) ?? root;
      if (at.system.stat(at.inode).type !== "directory") throw notThere(path, `${at.path} is no directory`);
      if (name === "..") {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const inode = at.system.lookup(at.inode, new TextEncoder().encode(name));
      if (inode === undefined) throw notThere(path, `${at.path} holds no ${name}`);
      const next = {
        system: at.system,
        inode,
        path: at.path.endsWith("/") ? at.path + name : `${at.path}/${name}`,
      };
      if (at.system.stat(inode).type !== "symlink" || (parts.length === 0 && !follow)) {
        trail.push(next);
        continue;
      }
      if (++links > LINKS_MAX) throw new VarveError("invalid", `find ${path}: too many symbolic links`);
      const target = new TextDecoder().decode(at.system.readLink(inode));
      if (target.startsWith("/")) trail.length = 1;
      parts.unshift(...target.split("/").filter((part) => part !== "" && part !== "."));
    }
    return trail.at(-1) ?? root;
  }

  /** What a directory holds, sorted by name. */
  entries(found: FoundFile): FileInfo[] {
    const { place } = found;
    if (place === undefined) {
      return this.#disk.partitions.map((partition): FileInfo => {
        const path = `/${partition.name}`;
        if (partition.fileSystem === undefined) {
          return { ...folderOfPartitions(), name: partition.name, path };
        }
        return describe({ system: partition.fileSystem, inode: partition.fileSystem.root, path });
      });
    }
    const base = found.file.path.endsWith("/") ? found.file.path : `${found.file.path}/`;
    return place.system.readDirectory(place.inode)
      .map((entry) => describe({ system: place.system, inode: entry.inode, path: base + decode(entry.name) }))
      .sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  }

  /** Bytes of a file from `offset` on, fewer than `length` only at its end. */
  read(found: FoundFile, offset: number, length: number): Uint8Array {
    const { place, file } = found;
    if (place === undefined || file.type !== "file") {
      throw new VarveError("invalid", `read ${file.path}: it is a ${file.type}, not a file`, {
        field: "path",
      });
    }
    const bytes = new Uint8Array(Math.max(0, Math.min(length, file.sizeBytes - offset)));
    return bytes.subarray(0, place.system.read(place.inode, offset, bytes));
  }
}

function notThere(path: string, found: string): VarveError {
  return new VarveError("not-found", `find ${path}: ${found} at that moment`, { field: "path" });
}

function decode(name: Uint8Array): string {
  return new TextDecoder().decode(name);
}

function folderOfPartitions(): FileInfo {
  return {
    name: "",
    path: "/",
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

function describe(step: Step): FileInfo {
  const stat: GuestStat = step.system.stat(step.inode);
  return {
    name: step.path.slice(step.path.lastIndexOf("/") + 1),
    path: step.path,
    type: stat.type,
    sizeBytes: stat.sizeBytes,
    mode: stat.mode.toString(8).padStart(4, "0"),
    uid: stat.uid,
    gid: stat.gid,
    links: stat.links,
    inode: stat.inode,
    modifiedAt: formatNs(stat.modifiedNs),
    ...(stat.type === "symlink" ? { target: decode(step.system.readLink(step.inode)) } : {}),
  };
}

function formatNs(ns: bigint): string {
  const seconds = ns >= 0n ? ns / 1_000_000_000n : (ns - 999_999_999n) / 1_000_000_000n;
  const rest = ns - seconds * 1_000_000_000n;
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return rest === 0n ? `${whole}Z` : `${whole}.${String(rest).padStart(9, "0")}Z`;
}

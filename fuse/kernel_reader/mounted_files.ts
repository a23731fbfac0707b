/**
 * Files of a mount that is attached nowhere, by their handles.
 *
 * Nothing is opened but directories and regular files: a FIFO would wait for a writer.
 *
 * @module
 */
import { lastErrno } from "../../src/base/errno.ts";
import { VarveError } from "../../src/base/errors.ts";
import { packEntries } from "../../src/browse/packed_listing.ts";
import type { GuestEntry, GuestFileSystem, GuestStat, GuestXattr } from "../../src/guestfs/guest.ts";
import { cString } from "../libc.ts";
import { Lru } from "../../src/base/lru.ts";
import { type Dirent, readDirents } from "./dirents.ts";
import { callFailure, checked, ERRNO_HERE, libc, OPEN } from "./libc.ts";
import type { FoundEntries, FoundFile, MountSummary } from "./reader_calls.ts";
import { statOf, STATX_BYTES, STATX_MASK } from "./statx.ts";

const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_NO_AUTOMOUNT = 0x800;
const AT_EMPTY_PATH = 0x1000;
const HANDLE_BYTES_MAX = 128;
/** `struct file_handle` before the handle itself: its length, its type. */
const HANDLE_HEADER_BYTES = 8;
/** Most that Linux keeps of the names, or of one value, of extended attributes. */
const XATTR_BYTES_MAX = 65_536;
const LINK_BYTES_MAX = 65_536;
const NAME_BYTES_MAX = 255;
const SEEK = { data: 3, hole: 4 } as const;
const FS_IOC_GETFSLABEL = 0x81009431n;
const LABEL_BYTES = 256;
/** Regular files that stay open. */
const OPEN_FILES_MAX = 32;
/** How long a look for an inode through the whole file system may take, in milliseconds. */
const FIND_MS_MAX = 8000;

const EMPTY = cString("");

/** The files of one mount. Everything throws `VarveError`. */
export class MountedFiles implements Disposable {
  readonly #root: number;
  readonly #isBtrfs: boolean;
  /** On btrfs the number of the subvolume that is the root. */
  readonly #rootVolume: bigint;
  readonly #open = new Lru<number>(OPEN_FILES_MAX, (descriptor) => libc.close(descriptor));
  readonly #statBuffer = new Uint8Array(STATX_BYTES);
  readonly #handleBuffer = new Uint8Array(HANDLE_HEADER_BYTES + HANDLE_BYTES_MAX);
  readonly #mountId = new Uint8Array(4);

  /** Of the mount whose root is given as a descriptor. Throws `unsupported` where the driver gives no handles. */
  constructor(root: number, type: string) {
    this.#root = root;
    this.#isBtrfs = type === "btrfs";
    const handle = this.#handleAt(root, EMPTY, AT_EMPTY_PATH);
    if (handle === "") {
      throw new VarveError("unsupported", `mount it as ${type}: the driver cannot find files by number`);
    }
    this.#rootVolume = this.#isBtrfs ? btrfsIdentity(handle).volume : 0n;
  }

  /** What is mounted. */
  describe(): MountSummary {
    const buffer = new Uint8Array(LABEL_BYTES);
    const told = libc.ioctl(this.#root, FS_IOC_GETFSLABEL, buffer) === 0;
    const label = told ? new TextDecoder().decode(buffer.subarray(0, buffer.indexOf(0))) : "";
    return { label, root: this.#found(this.#root, EMPTY, AT_EMPTY_PATH) };
  }

  /** Total and free space. */
  space(): GuestFileSystem["space"] {
    const words = new BigUint64Array(16);
    checked(libc.fstatfs(this.#root, new Uint8Array(words.buffer)), "statfs");
    const at = (index: number) => Number(words[index]);
    return { blockBytes: at(1), blocks: at(2), freeBlocks: at(3), inodes: at(5), freeInodes: at(6) };
  }

  /** What is known of a file. */
  stat(handle: string): FoundFile {
    return this.#use(
      handle,
      OPEN.path,
      (file) => ({ stat: this.#statAt(file, EMPTY, AT_EMPTY_PATH, handle), handle }),
    );
  }

  /** The file behind a name, or `undefined`. */
  lookup(directory: string, name: Uint8Array): FoundFile | undefined {
    if (!isName(name)) return undefined;
    const terminated = new Uint8Array(name.length + 1);
    terminated.set(name);
    return this.#use(directory, OPEN.path | OPEN.directory, (parent) => {
      try {
        return this.#found(parent, terminated, 0);
      } catch (thrown) {
        if (thrown instanceof VarveError && thrown.code === "not-found") return undefined;
        throw thrown;
      }
    });
  }

  /** Every name in a directory. */
  list(directory: string): FoundEntries {
    const handles: string[] = [];
    const entries: GuestEntry[] = [];
    const stats = new Map<number, GuestStat>();
    this.#use(directory, OPEN.directory | OPEN.noAccessTime, (parent) => {
      for (const dirent of readDirents(parent)) {
        const found = this.#foundOrNothing(parent, dirent);
        const inode = found?.stat.inode ?? dirent.inode;
        if (found !== undefined) stats.set(inode, found.stat);
        entries.push({ name: dirent.name.subarray(0, -1), inode, type: found?.stat.type });
        handles.push(found?.handle ?? "");
      }
    });
    return { entries: packEntries(entries, (inode) => stats.get(inode)), handles };
  }

  /** Looks through all directories for an inode. Throws `not-found`, or `io` when that takes too long. */
  find(inode: number): FoundFile {
    const untilMs = performance.now() + FIND_MS_MAX;
    const root = this.#found(this.#root, EMPTY, AT_EMPTY_PATH);
    if (root.stat.inode === inode) return root;
    const seen = new Set([root.stat.inode]);
    for (const pending = [root.handle];;) {
      const directory = pending.pop();
      if (directory === undefined) {
        throw new VarveError("not-found", `find inode ${inode}: no name leads to it`);
      }
      const found = this.#use(directory, OPEN.directory | OPEN.noAccessTime, (parent) => {
        for (const dirent of readDirents(parent)) {
          if (performance.now() > untilMs) {
            throw new VarveError("io", `find inode ${inode}: not found within ${FIND_MS_MAX / 1000} s`);
          }
          // On btrfs the number in a directory tells nothing about the subvolume.
          if (!this.#isBtrfs && !dirent.mayBeDirectory && dirent.inode !== inode) continue;
          const file = this.#foundOrNothing(parent, dirent);
          if (file?.stat.inode === inode) return file;
          if (file?.stat.type !== "directory" || seen.has(file.stat.inode)) continue;
          seen.add(file.stat.inode);
          pending.push(file.handle);
        }
        return undefined;
      });
      if (found !== undefined) return found;
    }
  }

  /** The target of a symbolic link. */
  readLink(handle: string): Uint8Array {
    return this.#use(handle, OPEN.path, (link) => {
      const buffer = new Uint8Array(LINK_BYTES_MAX);
      const length = libc.readlinkat(link, EMPTY, buffer, BigInt(buffer.length));
      return buffer.slice(0, checked(length, "read a symbolic link"));
    });
  }

  /** All extended attributes. */
  xattrs(handle: string): GuestXattr[] {
    return this.#use(handle, OPEN.path, (file) => {
      // The calls that take a descriptor refuse one that was opened as a path; this path leads to the file itself, also of a link.
      const path = cString(`/proc/self/fd/${file}`);
      const names = new Uint8Array(XATTR_BYTES_MAX);
      const length = libc.listxattr(path, names, BigInt(names.length));
      if (length < 0 && lastErrno() === ERRNO_HERE.EOPNOTSUPP) return [];
      checked(length, "list extended attributes");
      const value = new Uint8Array(XATTR_BYTES_MAX);
      const xattrs: GuestXattr[] = [];
      for (let at = 0; at < length;) {
        const end = names.indexOf(0, at);
        const bytes = libc.getxattr(path, names.slice(at, end + 1), value, BigInt(value.length));
        if (bytes >= 0) xattrs.push({ name: names.slice(at, end), value: value.slice(0, bytes) });
        else if (lastErrno() !== ERRNO_HERE.ENODATA) checked(bytes, "read an extended attribute");
        at = end + 1;
      }
      return xattrs;
    });
  }

  /** Content from an offset; short only at the end of the file. */
  read(handle: string, offset: number, length: number): Uint8Array {
    const file = this.#openFile(handle);
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const part = bytes.subarray(done);
      const count = checked(
        libc.pread(file, part, BigInt(part.length), BigInt(offset + done)),
        "read a file",
      );
      if (count === 0) break;
      done += count;
    }
    return bytes.subarray(0, done);
  }

  /** As lseek(2) with SEEK_DATA or SEEK_HOLE; `undefined` when there is none. */
  seek(handle: string, offset: number, kind: "data" | "hole"): number | undefined {
    const found = libc.lseek(this.#openFile(handle), BigInt(offset), SEEK[kind]);
    if (found < 0n && lastErrno() === ERRNO_HERE.ENXIO) return undefined;
    return Number(checked(found, `look for ${kind}`));
  }

  #openFile(handle: string): number {
    const known = this.#open.get(handle);
    if (known !== undefined) return known;
    const { stat } = this.stat(handle);
    if (stat.type !== "file") {
      throw new VarveError("invalid", `read inode ${stat.inode}: it is a ${stat.type}`);
    }
    const file = this.#openHandle(handle, OPEN.noAccessTime | OPEN.nonBlocking);
    this.#open.set(handle, file);
    return file;
  }

  #use<T>(handle: string, flags: number, use: (descriptor: number) => T): T {
    const descriptor = this.#openHandle(handle, flags);
    try {
      return use(descriptor);
    } finally {
      libc.close(descriptor);
    }
  }

  #openHandle(handle: string, flags: number): number {
    const length = handle.length - 4;
    if (length <= 0 || length > HANDLE_BYTES_MAX) {
      throw new VarveError("invalid", "open a file: no such handle");
    }
    const buffer = this.#handleBuffer;
    new DataView(buffer.buffer).setUint32(0, length, true);
    for (let at = 0; at < handle.length; at++) buffer[4 + at] = handle.charCodeAt(at);
    const descriptor = libc.open_by_handle_at(
      this.#root,
      buffer,
      flags | OPEN.noFollow | OPEN.closeOnExec,
    );
    return checked(descriptor, "open a file");
  }

  #found(directory: number, name: Uint8Array<ArrayBuffer>, flags: number): FoundFile {
    const handle = this.#handleAt(directory, name, flags);
    return { stat: this.#statAt(directory, name, flags, handle), handle };
  }

  /** A name whose inode cannot be read is listed all the same. */
  #foundOrNothing(directory: number, { name }: Dirent): FoundFile | undefined {
    try {
      return this.#found(directory, name, 0);
    } catch (thrown) {
      if (thrown instanceof VarveError) return undefined;
      throw thrown;
    }
  }

  #statAt(directory: number, name: Uint8Array<ArrayBuffer>, flags: number, handle: string): GuestStat {
    const how = flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
    checked(libc.statx(directory, name, how, STATX_MASK, this.#statBuffer), "stat");
    const stat = statOf(this.#statBuffer);
    return this.#isBtrfs ? { ...stat, inode: this.#btrfsInode(handle) } : stat;
  }

  /** Empty where the driver gives none. */
  #handleAt(directory: number, name: Uint8Array<ArrayBuffer>, flags: number): string {
    const buffer = this.#handleBuffer;
    new DataView(buffer.buffer).setUint32(0, HANDLE_BYTES_MAX, true);
    const result = libc.name_to_handle_at(directory, name, buffer, this.#mountId, flags);
    if (result < 0) {
      const errno = lastErrno();
      if (errno === ERRNO_HERE.EOPNOTSUPP) return "";
      throw callFailure("look a name up", errno);
    }
    const length = new DataView(buffer.buffer).getUint32(0, true);
    return String.fromCharCode(...buffer.subarray(4, HANDLE_HEADER_BYTES + length));
  }

  /** Subvolumes count their inodes each for itself: outside the one at the root, its number stands above that of the inode. */
  #btrfsInode(handle: string): number {
    const { inode, volume } = btrfsIdentity(handle);
    if (volume === this.#rootVolume && inode < 2n ** 53n) return Number(inode);
    if (inode >= 2n ** 36n || volume >= 2n ** 17n) {
      throw new VarveError(
        "unsupported",
        `number inode ${inode} of subvolume ${volume}: the numbers are too large`,
      );
    }
    return Number(volume * 2n ** 36n + inode);
  }

  /** Closes files that stayed open. */
  [Symbol.dispose](): void {
    this.#open.clear();
  }
}

/** The first two fields of `struct btrfs_fid`, from Linux `fs/btrfs/export.h`. */
function btrfsIdentity(handle: string): { inode: bigint; volume: bigint } {
  const bytes = Uint8Array.from(handle, (character) => character.charCodeAt(0));
  if (bytes.length < 4 + 16) throw new VarveError("unsupported", "number an inode: its handle is too short");
  const view = new DataView(bytes.buffer, 4);
  return { inode: view.getBigUint64(0, true), volume: view.getBigUint64(8, true) };
}

/** A name that leads to nothing but an entry of its directory. */
function isName(name: Uint8Array): boolean {
  if (name.length === 0 || name.length > NAME_BYTES_MAX || name.includes(0) || name.includes(0x2f)) {
    return false;
  }
  return !(name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e)));
}

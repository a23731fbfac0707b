/** The kernel's own view of an image, for comparison: mounts, and a walk over a mount by system calls. */
import { existsSync } from "node:fs";
import { type FileFacts, hashOf, hex, run, segmentsOf } from "./_test_support.ts";
import { latin1 } from "./_bytes.ts";
import type { GuestFileSystem, GuestFileType } from "./guest.ts";

const LIBC = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  getdents64: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  statfs: { parameters: ["buffer", "buffer"], result: "i32" },
  llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  rename: { parameters: ["buffer", "buffer"], result: "i32" },
} as const;

const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_NOATIME = 0o1000000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const STATX_ALL = 0xfff;
/** `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN` by another name, with `NOLOGFLUSH`: nothing reaches the disk any more. */
const IOC_SHUTDOWN = 0x8004587dn;
const NO_LOG_FLUSH = 2;

const TYPES: ReadonlyMap<number, GuestFileType> = new Map([
  [0x1000, "fifo"],
  [0x2000, "character"],
  [0x4000, "directory"],
  [0x6000, "block"],
  [0x8000, "file"],
  [0xa000, "symlink"],
  [0xc000, "socket"],
]);

/** Why this machine cannot mount images, or `undefined` when it can. */
const MOUNT_MISSING: string | undefined = Deno.uid() !== 0
  ? "mounting needs root"
  : !existsSync("/dev/loop-control")
  ? "there are no loop devices"
  : undefined;

/** Defines a test that mounts images; where that is impossible it is skipped, and its name says why. */
export function mountTest(name: string, fn: () => Promise<void>): void {
  const skipped = MOUNT_MISSING === undefined ? "" : ` (skipped: ${MOUNT_MISSING})`;
  Deno.test({ name: name + skipped, ignore: MOUNT_MISSING !== undefined, fn });
}

/** Bytes with each character of a text as one byte, and a zero at the end. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from([...text, "\0"], (character) => character.charCodeAt(0));
}

/** System calls for paths whose bytes need not be UTF-8; each character of a path is one byte. */
export class Kernel implements Disposable {
  readonly #libc = Deno.dlopen("libc.so.6", LIBC);

  /** Everything below a mounted folder. */
  describeTree(mount: string): Map<string, FileFacts> {
    const tree = new Map<string, FileFacts>();
    const visit = (path: string) => {
      const facts = this.#describeFile(mount + path);
      tree.set(path, facts);
      if (facts.stat.type === "directory") {
        for (const name of this.#names(mount + path)) visit(`${path}/${name}`);
      }
    };
    visit("");
    return tree;
  }

  /** What `statfs` says. */
  space(mount: string): GuestFileSystem["space"] {
    const buffer = new BigUint64Array(16);
    this.#check(this.#libc.symbols.statfs(cString(mount), bytesOf(buffer)), "statfs", mount);
    const at = (index: number) => Number(buffer[index]);
    return { blockBytes: at(1), blocks: at(2), freeBlocks: at(3), inodes: at(5), freeInodes: at(6) };
  }

  /** Stops a mounted ext or XFS file system as a power failure would. */
  shutDown(mount: string): void {
    const descriptor = this.#open(mount, 0);
    const flags = Uint32Array.of(NO_LOG_FLUSH);
    const result = this.#libc.symbols.ioctl(descriptor, IOC_SHUTDOWN, bytesOf(flags));
    this.#libc.symbols.close(descriptor);
    this.#check(result, "shutting down", mount);
  }

  /** Renames by raw bytes, so that names outside UTF-8 can be made. */
  rename(from: string, to: string): void {
    this.#check(this.#libc.symbols.rename(cString(from), cString(to)), "renaming", from);
  }

  [Symbol.dispose](): void {
    this.#libc.close();
  }

  #open(path: string, flags: number): number {
    return this.#check(this.#libc.symbols.open(cString(path), flags | O_NOFOLLOW), "opening", path);
  }

  #check<Result extends number | bigint>(result: Result, tried: string, path: string): Result {
    if (result < 0) throw new Error(`${tried} ${path}: failed`);
    return result;
  }

  #describeFile(path: string): FileFacts {
    const name = cString(path);
    const buffer = new Uint8Array(256);
    this.#check(
      this.#libc.symbols.statx(-100, name, AT_SYMLINK_NOFOLLOW, STATX_ALL, buffer),
      "statx",
      path,
    );
    const view = new DataView(buffer.buffer);
    const time = (at: number) =>
      view.getBigInt64(at, true) * 1_000_000_000n + BigInt(view.getUint32(at + 8, true));
    const [major, minor] = [view.getUint32(128, true), view.getUint32(132, true)];
    const mode = view.getUint16(28, true);
    const type = TYPES.get(mode & 0xf000) ?? "file";
    const sizeBytes = Number(view.getBigUint64(40, true));
    const born = (view.getUint32(0, true) & 0x800) !== 0;
    return {
      stat: {
        inode: Number(view.getBigUint64(32, true)),
        type,
        mode: mode & 0xfff,
        uid: view.getUint32(20, true),
        gid: view.getUint32(24, true),
        links: view.getUint32(16, true),
        sizeBytes,
        blocks512: Number(view.getBigUint64(48, true)),
        rdev: (minor & 0xff) + (major << 8) + (minor >>> 8) * 2 ** 20,
        accessedNs: time(64),
        changedNs: time(96),
        modifiedNs: time(112),
        ...(born ? { bornNs: time(80) } : {}),
      },
      target: type === "symlink" ? this.#target(path, sizeBytes) : undefined,
      ...(type === "file" ? this.#content(path, sizeBytes) : { sha256: undefined, segments: [] }),
      xattrs: this.#xattrs(path),
    };
  }

  #content(path: string, sizeBytes: number): Pick<FileFacts, "sha256" | "segments"> {
    const descriptor = this.#open(path, O_NOATIME);
    const { pread, lseek, close } = this.#libc.symbols;
    const segments = segmentsOf((offset, kind) => {
      const found = lseek(descriptor, BigInt(offset), kind === "data" ? 3 : 4);
      return found < 0 ? undefined : Number(found);
    });
    const sha256 = hashOf(sizeBytes, (offset, target) =>
      Number(this.#check(
        pread(descriptor, target as Uint8Array<ArrayBuffer>, BigInt(target.length), BigInt(offset)),
        "reading",
        path,
      )));
    close(descriptor);
    return { sha256, segments };
  }

  #target(path: string, sizeBytes: number): string {
    const buffer = new Uint8Array(sizeBytes + 1);
    const length = this.#libc.symbols.readlink(cString(path), buffer, BigInt(buffer.length));
    return latin1(buffer.subarray(0, Number(this.#check(length, "readlink", path))));
  }

  #names(path: string): string[] {
    const descriptor = this.#open(path, O_DIRECTORY);
    const buffer = new Uint8Array(65536);
    const view = new DataView(buffer.buffer);
    const names: string[] = [];
    while (true) {
      const length = Number(this.#check(
        this.#libc.symbols.getdents64(descriptor, buffer, BigInt(buffer.length)),
        "getdents64",
        path,
      ));
      if (length === 0) break;
      for (let at = 0; at < length; at += view.getUint16(at + 16, true)) {
        const name = latin1(buffer.subarray(at + 19, buffer.indexOf(0, at + 19)));
        if (name !== "." && name !== "..") names.push(name);
      }
    }
    this.#libc.symbols.close(descriptor);
    return names;
  }

  #xattrs(path: string): Record<string, string> {
    const name = cString(path);
    const list = new Uint8Array(65536);
    const length = Number(
      this.#check(this.#libc.symbols.llistxattr(name, list, BigInt(list.length)), "llistxattr", path),
    );
    const value = new Uint8Array(65536);
    const names = latin1(list.subarray(0, length)).split("\0").filter((item) => item !== "").sort();
    return Object.fromEntries(names.map((item) => {
      const got = this.#libc.symbols.lgetxattr(name, cString(item), value, BigInt(value.length));
      return [item, hex(value.subarray(0, Number(this.#check(got, "lgetxattr", path))))];
    }));
  }
}

function bytesOf(array: BigUint64Array | Uint32Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(array.buffer as ArrayBuffer);
}

/** An image on a loop device, mounted until disposed. */
export class Mount implements AsyncDisposable {
  readonly path: string;
  readonly #loop: string;
  readonly #type: string;

  private constructor(path: string, loop: string, type: string) {
    this.path = path;
    this.#loop = loop;
    this.#type = type;
  }

  /** Attaches and mounts an image; a folder of the same name with `.mnt` is made for it. */
  static async open(image: string, options: string, type = "ext4"): Promise<Mount> {
    const path = `${image}.mnt`;
    await Deno.mkdir(path, { recursive: true });
    const loop = (await run("losetup", "-f", "--show", image)).trim();
    try {
      await run("mount", "-t", type, "-o", options, loop, path);
    } catch (thrown) {
      await run("losetup", "-d", loop);
      throw thrown;
    }
    return new Mount(path, loop, type);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("umount", this.path);
    // Else the kernel would refuse an older copy of this image in another loop device.
    if (this.#type === "btrfs") await run("btrfs", "device", "scan", "--forget", this.#loop);
    await run("losetup", "-d", this.#loop);
  }
}

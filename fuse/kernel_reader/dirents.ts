/**
 * Names in a directory of the kernel, by getdents64(2).
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
import { checked, libc } from "./libc.ts";

const BUFFER_BYTES = 256 * 1024;
/** Bytes of names and numbers that one directory may have: a damaged one may never end. */
const DIRECTORY_BYTES_MAX = 1024 ** 3;
/** `struct linux_dirent64`: inode, offset, length of the record, type, name. */
const DIRENT = { inode: 0, length: 16, type: 18, name: 19 } as const;
/** DT_UNKNOWN and DT_DIR */
const MAYBE_DIRECTORY: readonly number[] = [0, 4];

/** One name. */
export interface Dirent {
  /** The name with the NUL that ends it. */
  readonly name: Uint8Array<ArrayBuffer>;
  /** Inode number as the directory has it. */
  readonly inode: number;
  /** Whether it is a directory, or its kind is not told. */
  readonly mayBeDirectory: boolean;
}

/** Every name but `.` and `..`. Throws what reading throws, and `damaged` when there is no end to them. */
export function* readDirents(directory: number): Generator<Dirent> {
  const buffer = new Uint8Array(BUFFER_BYTES);
  const view = new DataView(buffer.buffer);
  for (let sum = 0;;) {
    const length = checked(libc.getdents64(directory, buffer, BigInt(buffer.length)), "list a directory");
    if (length === 0) return;
    sum += length;
    if (sum > DIRECTORY_BYTES_MAX) {
      throw new VarveError("damaged", `list a directory: ${sum} bytes, and no end`);
    }
    for (let at = 0; at < length; at += view.getUint16(at + DIRENT.length, true)) {
      const start = at + DIRENT.name;
      const name = buffer.slice(start, buffer.indexOf(0, start) + 1);
      if (isDots(name)) continue;
      yield {
        name,
        inode: Number(view.getBigUint64(at + DIRENT.inode, true)),
        mayBeDirectory: MAYBE_DIRECTORY.includes(buffer[at + DIRENT.type] ?? 0),
      };
    }
  }
}

function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 2 || (name.length === 3 && name[1] === 0x2e));
}

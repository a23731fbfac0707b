/**
 * A directory with what is known of every name in it, as two blocks of bytes that pass between threads without a copy.
 *
 * ```
 * one record for each name, little-endian
 * byte 0  end of the name  u32   behind all names before it
 *      4  type             u8    index in TYPES, 255 when it is not known
 *      5  known            u8    1 when the rest is there, 2 when the time of birth is too
 *      6  mode             u16
 *      8  uid, gid, links  u32 each
 *     20  (unused)         u32
 *     24  inode, size, blocks of 512 bytes, device  f64 each
 *     56  accessed, modified, changed, born         i64 each, seconds since 1970, rounded down
 *     88  the same                                  u32 each, nanoseconds on top of them
 * ```
 *
 * @module
 */
import type { GuestEntry, GuestFileType, GuestStat } from "../guestfs/guest.ts";
import type { PastEntry, PastListing } from "./past_file_system.ts";

const RECORD_BYTES = 104;
/** Nanoseconds in 64 bits end in the year 2262, before times that guests keep. */
const NS_PER_SECOND = 1_000_000_000n;
const TIMES = { seconds: 56, nanoseconds: 88 } as const;
const TIME = { accessed: 0, modified: 1, changed: 2, born: 3 } as const;
const TYPES: readonly GuestFileType[] = [
  "file",
  "directory",
  "symlink",
  "fifo",
  "socket",
  "block",
  "character",
];
const NO_TYPE = 255;
const KNOWN = { nothing: 0, stat: 1, born: 2 } as const;

/** The form in which a listing travels. */
export interface PackedEntries {
  /** Records, one behind the other. */
  readonly records: ArrayBuffer;
  /** Names, one behind the other. */
  readonly names: ArrayBuffer;
}

/** Packs a directory; `statOf` answers `undefined` for an inode that cannot be read. */
export function packEntries(
  entries: readonly GuestEntry[],
  statOf: (inode: number) => GuestStat | undefined,
): PackedEntries {
  const records = new ArrayBuffer(entries.length * RECORD_BYTES);
  const names = new Uint8Array(entries.reduce((sum, { name }) => sum + name.length, 0));
  const view = new DataView(records);
  let end = 0;
  for (const [index, { name, inode, type }] of entries.entries()) {
    const at = index * RECORD_BYTES;
    names.set(name, end);
    end += name.length;
    const stat = statOf(inode);
    view.setUint32(at, end, true);
    const known = stat?.type ?? type;
    view.setUint8(at + 4, known === undefined ? NO_TYPE : TYPES.indexOf(known));
    view.setFloat64(at + 24, inode, true);
    if (stat !== undefined) putStat(view, at, stat);
  }
  return { records, names: names.buffer };
}

function putStat(view: DataView, at: number, stat: GuestStat): void {
  view.setUint8(at + 5, stat.bornNs === undefined ? KNOWN.stat : KNOWN.born);
  view.setUint16(at + 6, stat.mode, true);
  view.setUint32(at + 8, stat.uid, true);
  view.setUint32(at + 12, stat.gid, true);
  view.setUint32(at + 16, stat.links, true);
  view.setFloat64(at + 32, stat.sizeBytes, true);
  view.setFloat64(at + 40, stat.blocks512, true);
  view.setFloat64(at + 48, stat.rdev, true);
  putTime(view, at, TIME.accessed, stat.accessedNs);
  putTime(view, at, TIME.modified, stat.modifiedNs);
  putTime(view, at, TIME.changed, stat.changedNs);
  putTime(view, at, TIME.born, stat.bornNs ?? 0n);
}

function putTime(view: DataView, at: number, index: number, ns: bigint): void {
  const nanoseconds = ((ns % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  view.setBigInt64(at + TIMES.seconds + index * 8, (ns - nanoseconds) / NS_PER_SECOND, true);
  view.setUint32(at + TIMES.nanoseconds + index * 4, Number(nanoseconds), true);
}

function getTime(view: DataView, at: number, index: number): bigint {
  const seconds = view.getBigInt64(at + TIMES.seconds + index * 8, true);
  return seconds * NS_PER_SECOND + BigInt(view.getUint32(at + TIMES.nanoseconds + index * 4, true));
}

/** Unpacks as it is asked. */
export class PackedListing implements PastListing {
  readonly length: number;
  readonly #view: DataView;
  readonly #names: Uint8Array;

  /** Over what {@linkcode packEntries} gave. */
  constructor({ records, names }: PackedEntries) {
    this.length = Math.floor(records.byteLength / RECORD_BYTES);
    this.#view = new DataView(records);
    this.#names = new Uint8Array(names);
  }

  /** Throws `RangeError` for an index outside the listing. */
  at(index: number): PastEntry {
    const view = this.#view;
    const at = index * RECORD_BYTES;
    const start = index === 0 ? 0 : view.getUint32(at - RECORD_BYTES, true);
    const inode = view.getFloat64(at + 24, true);
    const type = TYPES[view.getUint8(at + 4)];
    const known = view.getUint8(at + 5);
    return {
      name: this.#names.subarray(start, view.getUint32(at, true)),
      inode,
      type,
      stat: known === KNOWN.nothing || type === undefined ? undefined : {
        inode,
        type,
        mode: view.getUint16(at + 6, true),
        uid: view.getUint32(at + 8, true),
        gid: view.getUint32(at + 12, true),
        links: view.getUint32(at + 16, true),
        sizeBytes: view.getFloat64(at + 32, true),
        blocks512: view.getFloat64(at + 40, true),
        rdev: view.getFloat64(at + 48, true),
        accessedNs: getTime(view, at, TIME.accessed),
        modifiedNs: getTime(view, at, TIME.modified),
        changedNs: getTime(view, at, TIME.changed),
        ...(known === KNOWN.born ? { bornNs: getTime(view, at, TIME.born) } : {}),
      },
    };
  }
}

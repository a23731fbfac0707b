/**
 * What POSIX systems add to a directory record: the System Use Sharing Protocol (SUSP, IEEE P1281) and Rock Ridge (RRIP,
 * IEEE P1282).
 *
 * ```text
 * SP  be ef, u8 skip        CE  u32+u32 block, offset, length: goes on there        ST  the end
 * PX  mode, links, uid, gid[, serial], each u32+u32          PN  device, high and low
 * NM  u8 flags, name        SL  u8 flags, components: u8 flags, u8 length, text     TF  u8 flags, times
 * CL  block of a directory that lies elsewhere               RE  is shown at such a place, not here
 * ZF  "pz", u8 header / 4, u8 log of block, u32+u32 size: compressed               SF  sparse
 * ```
 * Each begins with two letters, u8 length, u8 version.
 *
 * @module
 */
import { damaged, latin1, slice, u32, u8 } from "../_bytes.ts";
import { type IsoRecord, longTime, recordAt, shortTime } from "./record.ts";
import type { IsoVolume } from "./volume.ts";

/** What Rock Ridge says of one record; what is absent was not said. */
export interface RockRidge {
  name?: Uint8Array;
  posix?: { readonly mode: number; readonly links: number; readonly uid: number; readonly gid: number };
  rdev?: number;
  /** The pieces of a symlink's target: see {@linkcode symlinkTarget}. */
  links?: Uint8Array[];
  bornNs?: bigint;
  modifiedNs?: bigint;
  accessedNs?: bigint;
  changedNs?: bigint;
  /** Offset of the directory that is shown here, in bytes. */
  child?: number;
  relocated?: boolean;
  zisofs?: { readonly sizeBytes: number };
  /** A content in a form that is not read, by the name of its entry. */
  unread?: string;
}

const CONTINUATIONS_MAX = 64;
const NAME_BYTES_MAX = 255;
const NAME_GOES_ON = 1;
const NAME_IS_DOTS = 6;
const TIME_LONG = 0x80;

interface Entry {
  readonly signature: string;
  readonly body: Uint8Array;
}

/** The skip that the root's own record announces, or `undefined` when the volume does not use Rock Ridge. */
export function rockRidgeSkip(volume: IsoVolume): number | undefined {
  const root = recordAt(volume, volume.root);
  const [first] = entriesOf(volume, root.systemUse);
  if (first?.signature !== "SP" || latin1(first.body.subarray(0, 2)) !== "\xbe\xef") return undefined;
  const uses = Array.from(entriesOf(volume, root.systemUse), ({ signature }) => signature);
  return uses.includes("PX") || uses.includes("RR") ? u8(first.body, 2) : undefined;
}

/** Reads what Rock Ridge says of a record. Throws `damaged`. */
export function readRockRidge(volume: IsoVolume, record: IsoRecord): RockRidge {
  const result: RockRidge = {};
  const own = record.offset === volume.root ? 0 : volume.skip;
  for (const { signature, body } of entriesOf(volume, record.systemUse.subarray(own))) {
    switch (signature) {
      case "PX":
        result.posix = { mode: u32(body, 0), links: u32(body, 8), uid: u32(body, 16), gid: u32(body, 24) };
        break;
      case "PN":
        result.rdev = deviceNumber(u32(body, 0), u32(body, 8));
        break;
      case "NM":
        addName(result, body);
        break;
      case "SL":
        (result.links ??= []).push(body);
        break;
      case "TF":
        addTimes(result, body);
        break;
      case "CL":
        result.child = u32(body, 0) * volume.blockBytes;
        break;
      case "RE":
        result.relocated = true;
        break;
      case "ZF":
        if (latin1(slice(body, 0, 2)) === "pz") result.zisofs = { sizeBytes: u32(body, 4) };
        else result.unread = "ZF";
        break;
      case "SF":
        result.unread = "SF";
    }
  }
  return result;
}

/** The entries of a system use area and of all that it goes on in. */
function* entriesOf(volume: IsoVolume, systemUse: Uint8Array): Generator<Entry> {
  let area: Uint8Array | undefined = systemUse;
  for (let count = 0; area !== undefined; count++) {
    if (count > CONTINUATIONS_MAX) {
      throw damaged("reading a system use area", `more than ${CONTINUATIONS_MAX} parts`);
    }
    let next: Uint8Array | undefined;
    for (let at = 0; at + 4 <= area.length;) {
      const length = u8(area, at + 2);
      // Padding, or what is not of this protocol.
      if (length < 4 || at + length > area.length) break;
      const signature = latin1(area.subarray(at, at + 2));
      const body = area.subarray(at + 4, at + length);
      at += length;
      if (signature === "ST") break;
      if (signature === "CE") next = continuation(volume, body);
      else yield { signature, body };
    }
    area = next;
  }
}

function continuation(volume: IsoVolume, body: Uint8Array): Uint8Array {
  const length = u32(body, 16);
  if (length > volume.blockBytes) throw damaged("reading a system use area", `${length} bytes in a block`);
  return volume.chunks.bytes(u32(body, 0) * volume.blockBytes + u32(body, 8), length);
}

function addName(result: RockRidge, body: Uint8Array): void {
  if ((u8(body, 0) & NAME_IS_DOTS) !== 0) return;
  const part = body.subarray(1);
  const name = result.name ?? new Uint8Array();
  if (name.length + part.length > NAME_BYTES_MAX) {
    throw damaged("reading a name", `more than ${NAME_BYTES_MAX} bytes`);
  }
  result.name = Uint8Array.from([...name, ...part]);
}

/** In the order of their flags; what happened to the attributes outranks the creation as the last change. */
function addTimes(result: RockRidge, body: Uint8Array): void {
  const flags = u8(body, 0);
  const bytes = (flags & TIME_LONG) !== 0 ? 17 : 7;
  const read = bytes === 17 ? longTime : shortTime;
  const kinds = ["bornNs", "modifiedNs", "accessedNs", "changedNs"] as const;
  let at = 1;
  for (const [bit, kind] of kinds.entries()) {
    if ((flags & (1 << bit)) === 0) continue;
    result[kind] = read(slice(body, at, at + bytes));
    at += bytes;
  }
}

/** Where a device number has 32 bits all of it is in the low half, in the same form as ours. */
function deviceNumber(high: number, low: number): number {
  return high === 0 && low > 0xff
    ? low
    : (low & 0xff) + (high & 0xfff) * 256 + ((low >>> 8) & 0xfff) * 2 ** 20;
}

/** The target of a symbolic link, put together from its components. Throws `damaged`. */
export function symlinkTarget({ links = [] }: RockRidge): Uint8Array {
  const parts: Uint8Array[] = [];
  // Whether the last component goes on in the next one.
  let open = true;
  for (const body of links) {
    for (let at = 1; at + 2 <= body.length;) {
      const flags = u8(body, at);
      const length = u8(body, at + 1);
      const text = slice(body, at + 2, at + 2 + length);
      at += 2 + length;
      if (!open) parts.push(SLASH);
      parts.push((flags & 2) !== 0 ? DOT : (flags & 4) !== 0 ? DOTS : (flags & 8) !== 0 ? SLASH : text);
      open = (flags & (NAME_GOES_ON | 8)) !== 0;
    }
  }
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

const DOT = Uint8Array.of(0x2e);
const DOTS = Uint8Array.of(0x2e, 0x2e);
const SLASH = Uint8Array.of(0x2f);

/**
 * Attributes of a record, and the list that tells which records hold the others.
 *
 * @module
 */
import { damaged, slice, u16, u32, u64, u8 } from "../_bytes.ts";
import { ATTRIBUTE, ATTRIBUTE_FLAG, type FileReference } from "./format.ts";
import { readUtf16 } from "./names.ts";

const HEADER_BYTES = 0x18;
const NON_RESIDENT_HEADER_BYTES = 0x40;
const LIST_ENTRY_BYTES = 0x1a;

/** Where the content of a non-resident attribute lies; sizes are known in the first piece alone. */
export interface NonResident {
  /** First cluster of this piece within the attribute. */
  readonly firstVcn: number;
  /** The cluster behind its last one. */
  readonly endVcn: number;
  /** Bytes of its clusters, holes included. */
  readonly allocatedBytes: number;
  /** Bytes of its content. */
  readonly sizeBytes: number;
  /** Bytes of it that were ever written: what follows is zero, whatever the clusters hold. */
  readonly initialisedBytes: number;
  /** Bytes of its clusters without holes. */
  readonly takenBytes: number;
  /** Logarithm of the clusters that are compressed together; 0 without compression. */
  readonly compressionUnit: number;
  /** The run list, still encoded. */
  readonly runList: Uint8Array;
}

/** One attribute, or one piece of it. */
export interface Attribute {
  /** One of {@linkcode ATTRIBUTE}, or another number that does not matter here. */
  readonly type: number;
  /** Its name, empty for most. */
  readonly name: string;
  /** Bits of {@linkcode ATTRIBUTE_FLAG}. */
  readonly flags: number;
  /** Number by which lists know it within its record. */
  readonly instance: number;
  /** Its content when that lies in the record, else where it lies. */
  readonly content: Uint8Array | NonResident;
}

/** What the list of attributes says of one attribute or piece. */
export interface AttributePointer {
  readonly type: number;
  readonly name: string;
  /** First cluster of the piece within the attribute. */
  readonly firstVcn: number;
  /** The record that holds it. */
  readonly holder: FileReference;
  readonly instance: number;
}

/** Reads a file reference. */
export function readReference(bytes: Uint8Array, at: number): FileReference {
  return { record: u16(bytes, at + 4) * 2 ** 32 + u32(bytes, at), sequence: u16(bytes, at + 6) };
}

/** The attributes of a record, from `at` to the mark of the end. Throws `damaged` when they don't fit. */
export function parseAttributes(bytes: Uint8Array, at: number): Attribute[] {
  const attributes: Attribute[] = [];
  for (let length = 0; u32(bytes, at) !== ATTRIBUTE.end; at += length) {
    length = u32(bytes, at + 4);
    if (length < HEADER_BYTES || length % 8 !== 0 || at + length > bytes.length) {
      throw damaged("reading an attribute", `${length} bytes at ${at} of ${bytes.length}`);
    }
    attributes.push(parseAttribute(bytes.subarray(at, at + length)));
  }
  return attributes;
}

function parseAttribute(bytes: Uint8Array): Attribute {
  const nonResident = u8(bytes, 8);
  if (nonResident > 1) throw damaged("reading an attribute", `its form is ${nonResident}`);
  const flags = u16(bytes, 0x0c);
  const valueOffset = u16(bytes, 0x14);
  return {
    type: u32(bytes, 0),
    name: readUtf16(bytes, u16(bytes, 0x0a), u8(bytes, 9)),
    flags,
    instance: u16(bytes, 0x0e),
    content: nonResident === 1
      ? parseNonResident(bytes, flags)
      : slice(bytes, valueOffset, valueOffset + u32(bytes, 0x10)),
  };
}

function parseNonResident(bytes: Uint8Array, flags: number): NonResident {
  const firstVcn = u64(bytes, 0x10);
  const runsOffset = u16(bytes, 0x20);
  const allocatedBytes = u64(bytes, 0x28);
  // An attribute without clusters ends with cluster -1.
  const empty = u32(bytes, 0x18) === 0xffffffff && u32(bytes, 0x1c) === 0xffffffff;
  // The field exists in the first piece of what may have holes that take no space.
  const takes = firstVcn === 0 && (flags & (ATTRIBUTE_FLAG.sparse | ATTRIBUTE_FLAG.compressionMask)) !== 0 &&
    runsOffset >= NON_RESIDENT_HEADER_BYTES + 8;
  const piece = {
    firstVcn,
    endVcn: empty ? 0 : u64(bytes, 0x18) + 1,
    allocatedBytes,
    sizeBytes: u64(bytes, 0x30),
    initialisedBytes: u64(bytes, 0x38),
    takenBytes: takes ? u64(bytes, 0x40) : allocatedBytes,
    compressionUnit: u8(bytes, 0x22),
    runList: slice(bytes, runsOffset, bytes.length),
  };
  if (piece.endVcn < firstVcn || (firstVcn === 0 && piece.initialisedBytes > piece.sizeBytes)) {
    throw damaged("reading an attribute", "its sizes contradict each other");
  }
  return piece;
}

/** The entries of a list of attributes, in its order. Throws `damaged` when they don't fit. */
export function parseAttributeList(bytes: Uint8Array): AttributePointer[] {
  const pointers: AttributePointer[] = [];
  for (let at = 0, length = 0; at < bytes.length; at += length) {
    length = u16(bytes, at + 4);
    if (length < LIST_ENTRY_BYTES || at + length > bytes.length) {
      throw damaged("reading a list of attributes", `${length} bytes at ${at} of ${bytes.length}`);
    }
    const entry = bytes.subarray(at, at + length);
    pointers.push({
      type: u32(entry, 0),
      name: readUtf16(entry, u8(entry, 7), u8(entry, 6)),
      firstVcn: u64(entry, 8),
      holder: readReference(entry, 0x10),
      instance: u16(entry, 0x18),
    });
  }
  return pointers;
}

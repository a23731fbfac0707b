/**
 * Numbers and offsets of NTFS on disk, all little-endian. Source of the knowledge: the NTFS documentation of the Linux-NTFS project,
 * Microsoft's [MS-FSCC] for reparse points and attributes of files, and what mkntfs and ntfs-3g write.
 *
 * A volume is a list of clusters, and everything in it is a file; file 0, `$MFT`, holds one record for each file. A record is a
 * header and attributes; content is an attribute too, within the record (resident) or in runs of clusters (non-resident):
 *
 * ```text
 * record:    "FILE" | update sequence | sequence, links, flags, base record | attribute | attribute | … | 0xffffffff
 * attribute: type u32 | length u32 | non-resident u8 | name length u8 | name offset u16 | flags u16 | instance u16 | rest of header
 * ```
 *
 * @module
 */

/** Bytes at a time that the update sequence protects, whatever the sector size: the last two of each are kept elsewhere. */
export const FIXUP_STRIDE_BYTES = 512;

/** Types of attributes. */
export const ATTRIBUTE = {
  standardInformation: 0x10,
  attributeList: 0x20,
  fileName: 0x30,
  volumeName: 0x60,
  volumeInformation: 0x70,
  data: 0x80,
  indexRoot: 0x90,
  indexAllocation: 0xa0,
  bitmap: 0xb0,
  reparsePoint: 0xc0,
  extendedAttributes: 0xe0,
  end: 0xffffffff,
} as const;

/** Flags of an attribute; the low byte is the method of compression. */
export const ATTRIBUTE_FLAG = {
  compressionMask: 0x00ff,
  lznt1: 0x0001,
  encrypted: 0x4000,
  sparse: 0x8000,
} as const;

/** Flags of a record. */
export const RECORD_FLAG = { inUse: 1, directory: 2 } as const;

/** Flags of a file in `$STANDARD_INFORMATION` and in names. */
export const FILE_FLAG = {
  hidden: 0x2,
  system: 0x4,
  reparsePoint: 0x400,
  offline: 0x1000,
  encrypted: 0x4000,
  recallOnDataAccess: 0x400000,
  /** In names alone: the file has an index of names, so it is a directory. */
  directory: 0x10000000,
} as const;

/** Records with a fixed meaning. */
export const RECORD = { mft: 0, volume: 3, root: 5, bitmap: 6, upcase: 10, firstUser: 16 } as const;

/** Name of the index of a directory. */
export const NAME_INDEX = "$I30";

/** Space of names that holds nothing but 8.3 names; each has a long name beside it. */
export const NAMESPACE_DOS = 2;

/** A file reference: 48 bits of record number, 16 bits of the sequence number that the record had. */
export interface FileReference {
  /** Number of the record. */
  readonly record: number;
  /** How often the record was used before; 0 matches any. */
  readonly sequence: number;
}

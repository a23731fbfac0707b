/**
 * The label, the header and the metadata areas of an LVM2 physical volume.
 *
 * ```text
 * label    in one of the first four sectors of 512 bytes: "LABELONE", u64 its sector, u32 checksum of what follows in
 *          the sector, u32 offset of the header in it, "LVM2 001"
 * header   char[32] id, u64 bytes of the device, data areas, metadata areas: u64 offset, u64 length each,
 *          both lists ended by zeroes
 * area     u32 checksum of the rest of 512 bytes, char[16] magic, u32 1, u64 own offset, u64 length, then four of
 *          u64 offset in the area, u64 length, u32 checksum of the text, u32 flags (1: ignored)
 * ```
 * The text is written round the rest of the area as round a ring, so it may go on behind the area's header. The first
 * of the four is the committed text. All numbers are little-endian; the checksum is CRC-32 from a start value of its
 * own and without the last inversion. Source: lvm2's `lib/format_text/layout.h` and the libvslvm format description.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { BlockDevice } from "../../base/block_device.ts";
import { VarveError } from "../../base/errors.ts";
import { damaged, latin1, slice, u32, u64 } from "../_bytes.ts";

/** What a physical volume says of itself and of its group. */
export interface PhysicalVolume {
  /** Its id: 32 characters, without hyphens. */
  readonly id: string;
  /** The committed metadata of its volume group, each byte one character; `undefined` when it belongs to none or keeps none. */
  readonly metadata: string | undefined;
  /** Whether it has metadata areas at all: without them its group is described on other disks only. */
  readonly keepsMetadata: boolean;
}

const SECTOR_BYTES = 512;
const LABEL_SECTORS = 4;
const CHECKSUM_START = 0xf597a6cf;
const AREAS_MAX = 8;
const AREA_HEADER_BYTES = 512;
const AREA_MAGIC = " LVM2 x[5A%r0N*>";
const AREA_LOCATIONS = 40;
const LOCATION_IGNORED = 1;
/** Metadata of more bytes than this describes no group that exists. */
const TEXT_BYTES_MAX = 32 * 1024 * 1024;

/** LVM2's checksum of some bytes. */
export function lvmChecksum(bytes: Uint8Array): number {
  return ~crc32(bytes, ~CHECKSUM_START >>> 0) >>> 0;
}

/**
 * Reads what a device says as a physical volume, or `undefined` when it carries no valid label. Throws `damaged` when
 * none of its metadata areas can be proved right.
 */
export function readPhysicalVolume(device: BlockDevice): PhysicalVolume | undefined {
  const label = findLabel(device);
  if (label === undefined) return undefined;
  const header = u32(label, 20);
  const id = latin1(slice(label, header, header + 32));
  let at = header + 40;
  while (u64(label, at) !== 0) at += 16;
  at += 16;
  let failure: VarveError | undefined;
  let newest: string | undefined;
  let areas = 0;
  for (; u64(label, at) !== 0 && areas < AREAS_MAX; at += 16, areas++) {
    try {
      const metadata = readArea(device, u64(label, at), u64(label, at + 8));
      if (metadata !== undefined && (newest === undefined || sequenceOf(metadata) > sequenceOf(newest))) {
        newest = metadata;
      }
    } catch (thrown) {
      if (!(thrown instanceof VarveError)) throw thrown;
      failure ??= thrown;
    }
  }
  if (newest === undefined && failure !== undefined) throw failure;
  return { id, metadata: newest, keepsMetadata: areas > 0 };
}

/** How often the group had been changed: of two areas the one with more changes counts. */
function sequenceOf(metadata: string): number {
  return Number(/\bseqno = (\d{1,15})\b/.exec(metadata)?.[1] ?? 0);
}

function findLabel(device: BlockDevice): Uint8Array | undefined {
  if (device.sizeBytes < LABEL_SECTORS * SECTOR_BYTES) return undefined;
  const bytes = new Uint8Array(LABEL_SECTORS * SECTOR_BYTES);
  device.read(0, bytes);
  for (let sector = 0; sector < LABEL_SECTORS; sector++) {
    const label = bytes.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
    if (latin1(label.subarray(0, 8)) !== "LABELONE" || latin1(label.subarray(24, 32)) !== "LVM2 001") {
      continue;
    }
    if (u32(label, 8) === sector && lvmChecksum(label.subarray(20)) === u32(label, 16)) return label;
  }
  return undefined;
}

/** The committed text of one area, or `undefined` when it holds none. */
function readArea(device: BlockDevice, offset: number, length: number): string | undefined {
  const fail = (found: string) => damaged("reading an LVM2 metadata area", found);
  if (length < AREA_HEADER_BYTES || offset + length > device.sizeBytes) {
    throw fail(`${length} bytes at ${offset} of ${device.sizeBytes}`);
  }
  const header = new Uint8Array(AREA_HEADER_BYTES);
  device.read(offset, header);
  if (lvmChecksum(header.subarray(4)) !== u32(header, 0)) {
    throw fail("the checksum of its header does not match");
  }
  if (latin1(header.subarray(4, 20)) !== AREA_MAGIC) throw fail("its magic number is missing");
  if (u32(header, 20) !== 1) throw fail(`version ${u32(header, 20)}`);
  if (u64(header, 24) !== offset || u64(header, 32) !== length) {
    throw fail("it names another place than its own");
  }
  const textOffset = u64(header, AREA_LOCATIONS);
  if (textOffset === 0 || (u32(header, AREA_LOCATIONS + 20) & LOCATION_IGNORED) !== 0) return undefined;
  const textBytes = u64(header, AREA_LOCATIONS + 8);
  if (
    textOffset < AREA_HEADER_BYTES || textOffset >= length || textBytes > length - AREA_HEADER_BYTES ||
    textBytes > TEXT_BYTES_MAX
  ) {
    throw fail(`a text of ${textBytes} bytes at ${textOffset} of ${length}`);
  }
  const text = new Uint8Array(textBytes);
  const first = Math.min(textBytes, length - textOffset);
  device.read(offset + textOffset, text.subarray(0, first));
  device.read(offset + AREA_HEADER_BYTES, text.subarray(first));
  if (lvmChecksum(text) !== u32(header, AREA_LOCATIONS + 16)) {
    throw fail("the checksum of its text does not match");
  }
  return Buffer.from(text.buffer).toString("latin1");
}

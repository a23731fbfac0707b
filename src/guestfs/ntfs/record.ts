/**
 * One record of `$MFT`, checked and taken apart.
 *
 * @module
 */
import { damaged, u16, u32 } from "../_bytes.ts";
import { type Attribute, parseAttributes, readReference } from "./attribute.ts";
import { applyFixups } from "./fixups.ts";
import { type FileReference, RECORD_FLAG } from "./format.ts";

/** Records with an update sequence from here on have their own number too; free ones need not. */
const NUMBERED_HEADER_BYTES = 0x30;

/** A record in use or free. */
export interface FileRecord {
  /** Its number. */
  readonly number: number;
  /** How often it was used. */
  readonly sequence: number;
  /** Number of names that lead here, 8.3 names included. */
  readonly links: number;
  /** Whether a file or a part of one is here. */
  readonly inUse: boolean;
  /** Whether that is a directory. */
  readonly directory: boolean;
  /** The record whose attributes it holds because they did not fit there; record 0 with sequence 0 for none. */
  readonly base: FileReference;
  /** What it holds. */
  readonly attributes: readonly Attribute[];
}

/** Reads a record in place. Throws `damaged` unless it is whole and has that number. */
export function parseRecord(bytes: Uint8Array, number: number): FileRecord {
  applyFixups(bytes, "FILE", `file record ${number}`);
  const flags = u16(bytes, 0x16);
  const inUse = (flags & RECORD_FLAG.inUse) !== 0;
  if (inUse && u16(bytes, 4) >= NUMBERED_HEADER_BYTES && u32(bytes, 0x2c) !== number % 2 ** 32) {
    throw damaged(`reading file record ${number}`, `it says it is record ${u32(bytes, 0x2c)}`);
  }
  const usedBytes = u32(bytes, 0x18);
  if (usedBytes > bytes.length) throw damaged(`reading file record ${number}`, `it uses ${usedBytes} bytes`);
  return {
    number,
    sequence: u16(bytes, 0x10),
    links: u16(bytes, 0x12),
    inUse,
    directory: (flags & RECORD_FLAG.directory) !== 0,
    base: readReference(bytes, 0x20),
    attributes: inUse ? parseAttributes(bytes.subarray(0, usedBytes), u16(bytes, 0x14)) : [],
  };
}

/** Whether a reference means this record as it is now. */
export function isCurrent({ number, sequence }: FileRecord, reference: FileReference): boolean {
  return reference.record === number && (reference.sequence === 0 || reference.sequence === sequence);
}

/** Whether a record holds attributes of another one, which may be record 0, but never with sequence 0. */
export function isPart({ base }: FileRecord): boolean {
  return base.record !== 0 || base.sequence !== 0;
}

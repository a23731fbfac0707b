/**
 * `$MFT`, the file that holds all records, its own among them.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, isZero } from "../_bytes.ts";
import { ByteLru } from "../_lru.ts";
import { type Attribute, type AttributePointer, parseAttributeList } from "./attribute.ts";
import { ATTRIBUTE, type FileReference, RECORD } from "./format.ts";
import type { ByteSource } from "./metadata_source.ts";
import { type FileRecord, isCurrent, parseRecord } from "./record.ts";
import { NtfsStream, type StreamContext, type StreamPiece } from "./stream.ts";

const CACHE_BYTES = 4 * 1024 * 1024;
/** Windows keeps lists of attributes below this. */
const LIST_BYTES_MAX = 256 * 1024;
/** What the parsed form of a record weighs beside its bytes. */
const PARSED_BYTES = 2048;

/** Finds records by their numbers. */
export class MasterFileTable {
  readonly #context: StreamContext;
  readonly #source: ByteSource;
  readonly #records = new ByteLru<FileRecord>(CACHE_BYTES);
  readonly #pieces: StreamPiece[] = [];
  readonly #stream: NtfsStream;

  /**
   * Opens the table by its first record, or by the copy of that. The table may lie in pieces that further records of it tell of;
   * each of these must lie in the pieces before. Throws `damaged` when they don't.
   */
  constructor(context: StreamContext, source: ByteSource) {
    this.#context = context;
    this.#source = source;
    const base = this.#firstRecord();
    const own = base.attributes.find(({ type, name }) => type === ATTRIBUTE.data && name === "");
    if (own === undefined) throw damaged("opening $MFT", "it has no content");
    this.#pieces.push({ firstVcn: 0, key: pieceKey(RECORD.mft, own.instance), load: () => own });
    this.#stream = new NtfsStream(context, this.#pieces);
    let next = own.content instanceof Uint8Array ? 0 : own.content.endVcn;
    for (const pointer of this.listOf(base) ?? []) {
      if (pointer.type !== ATTRIBUTE.data || pointer.name !== "" || pointer.firstVcn === 0) continue;
      const attribute = this.resolve(base, pointer);
      if (pointer.firstVcn !== next || attribute.content instanceof Uint8Array) {
        throw damaged(
          "opening $MFT",
          `a piece at cluster ${pointer.firstVcn} follows one that ends at ${next}`,
        );
      }
      next = attribute.content.endVcn;
      this.#pieces.push(this.piece(base, pointer));
    }
  }

  /** The record of a number, in use or not. Throws `not-found` where none was ever written, `damaged` for one that isn't whole. */
  record(number: number): FileRecord {
    const record = this.find(number);
    if (record === undefined) throw new VarveError("not-found", `reading file record ${number}: it is free`);
    return record;
  }

  /** As {@linkcode record}, but `undefined` where none was ever written. */
  find(number: number): FileRecord | undefined {
    const cached = this.#records.get(number);
    if (cached !== undefined) return cached;
    const { recordBytes } = this.#context.geometry;
    const written = Number.isSafeInteger(number) && number >= 0 &&
      (number + 1) * recordBytes <= this.#stream.initialisedBytes;
    if (!written) return undefined;
    const bytes = new Uint8Array(recordBytes);
    this.#stream.read(this.#source, number * recordBytes, bytes);
    if (isZero(bytes.subarray(0, 4))) return undefined;
    const record = parseRecord(bytes, number);
    this.#records.set(number, record, recordBytes + PARSED_BYTES);
    return record;
  }

  /** The list of attributes of a record that needs more than one, or `undefined`. */
  listOf(base: FileRecord): AttributePointer[] | undefined {
    const list = base.attributes.find(({ type }) => type === ATTRIBUTE.attributeList);
    if (list === undefined) return undefined;
    const piece = { firstVcn: 0, key: pieceKey(base.number, list.instance), load: () => list };
    const stream = new NtfsStream(this.#context, [piece]);
    return parseAttributeList(stream.readAll(this.#source, LIST_BYTES_MAX));
  }

  /** The attribute that an entry of a list means. Throws `damaged` when it isn't there. */
  resolve(base: FileRecord, pointer: AttributePointer): Attribute {
    const holder = pointer.holder.record === base.number ? base : this.#extension(base, pointer.holder);
    const found = holder.attributes.find((attribute) =>
      attribute.instance === pointer.instance && attribute.type === pointer.type &&
      attribute.name === pointer.name
    );
    if (found === undefined || !isCurrent(holder, pointer.holder)) {
      throw damaged(
        `reading file ${base.number}`,
        `record ${holder.number} lacks an attribute that is listed there`,
      );
    }
    return found;
  }

  /** An entry of a list as a piece of a stream. */
  piece(base: FileRecord, pointer: AttributePointer): StreamPiece {
    return {
      firstVcn: pointer.firstVcn,
      key: pieceKey(pointer.holder.record, pointer.instance),
      load: () => this.resolve(base, pointer),
    };
  }

  #extension(base: FileRecord, reference: FileReference): FileRecord {
    const holder = this.find(reference.record);
    if (holder?.inUse !== true || !isCurrent(base, holder.base)) {
      throw damaged(
        `reading file ${base.number}`,
        `record ${reference.record} should hold a part of it, but does not`,
      );
    }
    return holder;
  }

  #firstRecord(): FileRecord {
    const { mftOffset, mirrorOffset, recordBytes } = this.#context.geometry;
    const readAt = (offset: number) => {
      const bytes = new Uint8Array(recordBytes);
      this.#source.read(offset, bytes);
      return parseRecord(bytes, RECORD.mft);
    };
    try {
      return readAt(mftOffset);
    } catch (thrown) {
      if (!(thrown instanceof VarveError && thrown.code === "damaged")) throw thrown;
      return readAt(mirrorOffset);
    }
  }
}

/** A key for {@linkcode StreamPiece}. */
export function pieceKey(record: number, instance: number): number {
  // Hostile numbers of 48 bits are no longer told apart here; the first cluster beside each cached list is what is relied on.
  return (record % 2 ** 36) * 65_536 + instance;
}

/**
 * A file as all its attributes, wherever their records are.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u32 } from "../_bytes.ts";
import type { Attribute, AttributePointer } from "./attribute.ts";
import { ATTRIBUTE } from "./format.ts";
import { pieceKey } from "./master_file_table.ts";
import { type FileRecord, isPart } from "./record.ts";
import { NtfsStream, type StreamPiece } from "./stream.ts";
import type { NtfsVolume } from "./volume.ts";

/** 100 ns from 1601 to 1970. */
const EPOCH_TICKS = 116_444_736_000_000_000n;
const STANDARD_INFORMATION_BYTES = 0x24;

/** Times of a file, in nanoseconds since 1970. */
export interface FileTimes {
  readonly bornNs: bigint;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
  readonly accessedNs: bigint;
}

/** A file or directory in use. */
export class NtfsInode {
  /** Number of its record. */
  readonly number: number;
  /** Its base record. */
  readonly record: FileRecord;
  /** Bits of `FILE_FLAG`. */
  readonly flags: number;
  /** When it was made, changed and read. */
  readonly times: FileTimes;
  readonly #volume: NtfsVolume;
  readonly #list: readonly AttributePointer[] | undefined;
  readonly #streams = new Map<string, NtfsStream | undefined>();

  /** Opens the file of a base record. Throws `not-found` when none is there, `damaged` when it lacks what each file has. */
  constructor(volume: NtfsVolume, number: number) {
    const record = volume.mft.record(number);
    if (!record.inUse || isPart(record)) {
      throw new VarveError(
        "not-found",
        `reading file ${number}: its record is ${record.inUse ? "a part of another file" : "free"}`,
      );
    }
    this.number = number;
    this.record = record;
    this.#volume = volume;
    this.#list = volume.mft.listOf(record);
    const [standard] = this.attributes(ATTRIBUTE.standardInformation);
    if (!(standard?.content instanceof Uint8Array) || standard.content.length < STANDARD_INFORMATION_BYTES) {
      throw damaged(`reading file ${number}`, "it lacks its standard information");
    }
    const { content } = standard;
    this.flags = u32(content, 0x20);
    this.times = {
      bornNs: timeNs(content, 0),
      modifiedNs: timeNs(content, 8),
      changedNs: timeNs(content, 0x10),
      accessedNs: timeNs(content, 0x18),
    };
  }

  /** Bytes that its lists weigh in a cache. */
  get weightBytes(): number {
    return 2048 + (this.#list?.length ?? 0) * 200;
  }

  /** All attributes of a type, first pieces alone. */
  attributes(type: number): Attribute[] {
    if (this.#list === undefined) return this.record.attributes.filter((each) => each.type === type);
    return this.#list.filter((pointer) => pointer.type === type && pointer.firstVcn === 0)
      .map((pointer) => this.#volume.mft.resolve(this.record, pointer));
  }

  /** The names of its attributes of a type, each once. */
  names(type: number): Set<string> {
    const all: readonly { readonly type: number; readonly name: string }[] = this.#list ??
      this.record.attributes;
    return new Set(all.filter((each) => each.type === type).map(({ name }) => name));
  }

  /** The content of an attribute, or `undefined` when the file has none of that type and name. */
  stream(type: number, name = ""): NtfsStream | undefined {
    const key = `${type} ${name}`;
    if (this.#streams.has(key)) return this.#streams.get(key);
    const pieces = this.#pieces(type, name);
    const stream = pieces.length === 0 ? undefined : new NtfsStream(this.#volume.streams, pieces);
    this.#streams.set(key, stream);
    return stream;
  }

  /** As {@linkcode stream}, for what must be there. */
  needStream(type: number, name = ""): NtfsStream {
    const stream = this.stream(type, name);
    if (stream === undefined) {
      throw damaged(`reading file ${this.number}`, `it lacks attribute ${type.toString(16)} ${name}`);
    }
    return stream;
  }

  #pieces(type: number, name: string): StreamPiece[] {
    if (this.#list === undefined) {
      const found = this.record.attributes.find((each) => each.type === type && each.name === name);
      if (found === undefined) return [];
      return [{ firstVcn: 0, key: pieceKey(this.number, found.instance), load: () => found }];
    }
    const pieces = this.#list.filter((each) => each.type === type && each.name === name)
      .map((pointer) => this.#volume.mft.piece(this.record, pointer));
    for (const [index, { firstVcn }] of pieces.entries()) {
      const before = pieces[index - 1]?.firstVcn ?? -1;
      if (firstVcn <= before) {
        throw damaged(`reading file ${this.number}`, `its piece ${firstVcn} follows ${before}`);
      }
    }
    return pieces;
  }
}

function timeNs(bytes: Uint8Array, at: number): bigint {
  const ticks = BigInt.asIntN(64, BigInt(u32(bytes, at + 4)) << 32n | BigInt(u32(bytes, at)));
  return (ticks - EPOCH_TICKS) * 100n;
}

/**
 * The sizes that a volume has had: each holds from a sequence on, until the next.
 *
 * The journal's texts tell of them, and table `sizes` repeats them; the first is the size that the volume was made or
 * adopted with. Whoever moves the position from which the next start reads the journal calls {@linkcode Sizes.save} in
 * the same transaction: otherwise a size could be known to neither. A size is noted only when its text is durable, or
 * the table could outlive a power cut that the text does not.
 *
 * @module
 */
import type { RecoveryMap } from "./recovery_map.ts";

/** A size, and since when the volume has it. */
export interface VolumeSize {
  /** The first sequence that has it. */
  readonly fromSeq: number;
  /** Size in bytes. */
  readonly sizeBytes: number;
}

/** The size that held at `seq`, of a list in the order of its sequences that begins at 0. */
export function sizeAt(sizes: readonly VolumeSize[], seq: number): number {
  return (sizes.findLast(({ fromSeq }) => fromSeq <= seq) ?? sizes[0])?.sizeBytes ?? 0;
}

/** The list with one more size in its place; a size from the same sequence on is replaced, for no moment had it. */
export function withSize(sizes: readonly VolumeSize[], size: VolumeSize): VolumeSize[] {
  return [...sizes.filter(({ fromSeq }) => fromSeq !== size.fromSeq), size].sort((a, b) =>
    a.fromSeq - b.fromSeq
  );
}

/** The sizes of one volume, kept with its recovery map. */
export class Sizes {
  readonly #map: RecoveryMap;
  #list: VolumeSize[];

  /** Begins with what `map` has, or with `initialBytes` where it has never been told of a size. */
  constructor(map: RecoveryMap, initialBytes: number) {
    this.#map = map;
    this.#list = map.statement("SELECT from_seq, size_bytes FROM sizes ORDER BY from_seq").all().map((
      row,
    ) => ({
      fromSeq: Number(row["from_seq"]),
      sizeBytes: Number(row["size_bytes"]),
    }));
    if (this.#list[0]?.fromSeq !== 0) this.note({ fromSeq: 0, sizeBytes: initialBytes });
  }

  /** Every size, oldest first. */
  get list(): readonly VolumeSize[] {
    return this.#list;
  }

  /** The size that the volume began with, in bytes. */
  get initialBytes(): number {
    return sizeAt(this.#list, 0);
  }

  /** The size that it has now, in bytes. */
  get newestBytes(): number {
    return sizeAt(this.#list, Infinity);
  }

  /** The largest that it ever had, in bytes. */
  get largestBytes(): number {
    return Math.max(...this.#list.map(({ sizeBytes }) => sizeBytes));
  }

  /** The size that a moment had, in bytes. */
  at(seq: number): number {
    return sizeAt(this.#list, seq);
  }

  /** Takes what a text of the journal says; it may have been told before. */
  note(size: VolumeSize): void {
    this.#list = withSize(this.#list, size);
  }

  /** Brings to the table what it does not have. To be called within a transaction. */
  save(): void {
    saveSizes(this.#map, this.#list);
  }
}

/** Enters sizes in the table that it may have already: there are few of them. To be called within a transaction. */
export function saveSizes(map: RecoveryMap, sizes: readonly VolumeSize[]): void {
  const put = map.statement(
    "INSERT INTO sizes VALUES (?, ?) ON CONFLICT DO UPDATE SET size_bytes = excluded.size_bytes " +
      "WHERE size_bytes <> excluded.size_bytes",
  );
  for (const { fromSeq, sizeBytes } of sizes) put.run(fromSeq, sizeBytes);
}

/**
 * The kernel's handles of files, by inode number: the tree keeps the numbers alone, for as long as the host likes.
 *
 * They are kept beyond the mount that they came from, for a later mount of the same moment takes them too.
 *
 * @module
 */

/** Handles kept at most, over all partitions: some 150 bytes each. */
const HANDLES_MAX = 400_000;

/** The handles of one partition of one moment. */
export type PartitionHandles = Map<number, string>;

/** Remembers handles, those of the partition not used for longest dropped first. */
export class FileHandles {
  readonly #partitions = new Map<string, PartitionHandles>();
  readonly #max: number;

  /** `max` is how many are kept in all; default 400,000. */
  constructor(max: number = HANDLES_MAX) {
    this.#max = max;
  }

  /** The handle of an inode, or `undefined` when it is not known (any more). */
  get(partition: string, inode: number): string | undefined {
    return this.#touch(partition).get(inode);
  }

  /** Takes in what was found. */
  add(partition: string, found: Iterable<readonly [inode: number, handle: string]>): void {
    const handles = this.#touch(partition);
    for (const [inode, handle] of found) if (handle !== "") handles.set(inode, handle);
    let sum = 0;
    for (const each of this.#partitions.values()) sum += each.size;
    for (const [oldest, each] of this.#partitions) {
      if (sum <= this.#max) return;
      if (oldest === partition) break;
      this.#partitions.delete(oldest);
      sum -= each.size;
    }
    for (const inode of handles.keys()) {
      if (sum-- <= this.#max) return;
      handles.delete(inode);
    }
  }

  #touch(partition: string): PartitionHandles {
    const handles = this.#partitions.get(partition) ?? new Map<number, string>();
    this.#partitions.delete(partition);
    this.#partitions.set(partition, handles);
    return handles;
  }
}

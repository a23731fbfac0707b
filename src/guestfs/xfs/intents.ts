/**
 * Changes that the log announces (an intent) and does not report done: a mount finishes them after it has replayed
 * the log. Those that only free space are invisible here; those that change what a file is are kept for its readers.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";

/** A piece of a file's content that is mapped to blocks, or unmapped. */
export interface MappingChange {
  /** Whether the range is given the blocks, or loses what it has. */
  readonly map: boolean;
  /** First block in the file. */
  readonly start: number;
  readonly count: number;
  /** Block address on the device. */
  readonly address: number;
  readonly unwritten: boolean;
}

/** What the log announced and did not do, by inode. */
export class PendingChanges {
  /** Changes of file content, in order. */
  readonly mappings = new Map<number, MappingChange[]>();
  /** Inodes whose blocks of extents may still name the owner before a swap. */
  readonly ownersChanged = new Set<number>();
  readonly #refusedContent = new Set<number>();
  readonly #refusedAttributes = new Set<number>();

  /** By how many blocks the changes alter what an inode takes. */
  blocksChange(inode: number): number {
    return (this.mappings.get(inode) ?? []).reduce((sum, { map, count }) => sum + (map ? count : -count), 0);
  }

  /** Adds a change of a file's content. */
  addMapping(inode: number, change: MappingChange): void {
    const changes = this.mappings.get(inode) ?? [];
    changes.push(change);
    this.mappings.set(inode, changes);
  }

  /** Notes an inode whose content is half exchanged with that of another. */
  refuseContent(inode: number): void {
    this.#refusedContent.add(inode);
  }

  /** Notes an inode one of whose attributes is half changed. */
  refuseAttributes(inode: number): void {
    this.#refusedAttributes.add(inode);
  }

  /** Throws `unsupported` when the content of an inode cannot be told. */
  checkContent(inode: number): void {
    if (this.#refusedContent.has(inode)) refuse(inode, "an exchange of its content");
  }

  /** Throws `unsupported` when the attributes of an inode cannot be told. */
  checkAttributes(inode: number): void {
    if (this.#refusedAttributes.has(inode)) refuse(inode, "a change of its attributes");
    this.checkContent(inode);
  }
}

function refuse(inode: number, what: string): never {
  throw new VarveError(
    "unsupported",
    `reading inode ${inode}: ${what} was under way, which Varve cannot finish`,
    { hint: "Mount a copy of the image: the kernel finishes it." },
  );
}

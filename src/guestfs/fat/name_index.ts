/**
 * Looking up names without regard to case, by an index of each directory.
 *
 * The formats have no index, so one is made of the whole directory and kept while there is room.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { ByteLru } from "../_lru.ts";
import type { CaseFolding } from "./name.ts";

/** A name and what it leads to. */
export interface IndexedName {
  /** The name. */
  readonly name: string;
  /** Another name for the same, found when no file has it as its name. */
  readonly alias: string | undefined;
  /** The inode. */
  readonly inode: number;
}

const CACHE_BYTES = 24 * 1024 * 1024;
/** Names of a directory for which no index is made. */
const INDEXED_MAX = 65_536;
const NAME_BYTES = 250;

/** Finds names in directories. */
export class NameIndex {
  readonly #folding: CaseFolding;
  readonly #cache = new ByteLru<NameMaps>(CACHE_BYTES);

  /** Compares names by a folding. */
  constructor(folding: CaseFolding) {
    this.#folding = folding;
  }

  /**
   * The inode behind a name: that of the file of exactly this name, else of one that differs in case, else by an alias. `names` gives
   * all names in the directory. Where it fails, what came before can still be found; else its error is thrown.
   */
  find(directory: number, name: string, names: () => Iterable<IndexedName>): number | undefined {
    let maps = this.#cache.get(directory);
    if (maps === undefined) {
      maps = new NameMaps(this.#folding, INDEXED_MAX);
      maps.addAll(names());
      if (maps.lasting) this.#cache.set(directory, maps, maps.weightBytes);
    }
    if (maps.full) {
      maps = new NameMaps(this.#folding, Infinity, name);
      maps.addAll(names());
    }
    return maps.find(name);
  }
}

/** The names of a directory, or those that one name may mean. */
class NameMaps {
  readonly #folding: CaseFolding;
  readonly #max: number;
  readonly #only: string | undefined;
  readonly #exact = new Map<string, number>();
  readonly #folded = new Map<string, number>();
  readonly #aliases = new Map<string, number>();
  #failure: VarveError | undefined;
  #count = 0;

  constructor(folding: CaseFolding, max: number, only?: string) {
    this.#folding = folding;
    this.#max = max;
    this.#only = only === undefined ? undefined : folding.fold(only);
  }

  get full(): boolean {
    return this.#count > this.#max;
  }

  /** Whether another try would find the same: a device that could not be read may be able to another time. */
  get lasting(): boolean {
    return this.#failure === undefined || this.#failure.code === "damaged";
  }

  get weightBytes(): number {
    return 200 + Math.min(this.#count, this.#max) * NAME_BYTES;
  }

  addAll(names: Iterable<IndexedName>): void {
    try {
      for (const name of names) {
        if (++this.#count > this.#max) return this.#clear();
        this.#add(name);
      }
    } catch (thrown) {
      if (!(thrown instanceof VarveError)) throw thrown;
      this.#failure = thrown;
    }
  }

  find(name: string): number | undefined {
    const folded = this.#folding.fold(name);
    const found = this.#exact.get(name) ?? this.#folded.get(folded) ?? this.#aliases.get(folded);
    if (found === undefined && this.#failure !== undefined) throw this.#failure;
    return found;
  }

  #clear(): void {
    this.#exact.clear();
    this.#folded.clear();
    this.#aliases.clear();
  }

  #add({ name, alias, inode }: IndexedName): void {
    const folded = this.#folding.fold(name);
    if (this.#only === undefined || folded === this.#only) {
      if (!this.#exact.has(name)) this.#exact.set(name, inode);
      if (!this.#folded.has(folded)) this.#folded.set(folded, inode);
    }
    if (alias === undefined) return;
    const foldedAlias = this.#folding.fold(alias);
    if (this.#only !== undefined && foldedAlias !== this.#only) return;
    if (!this.#aliases.has(foldedAlias)) this.#aliases.set(foldedAlias, inode);
  }
}

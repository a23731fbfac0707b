/**
 * What will probably be asked next: whoever looks at one name of a directory tends to look at those behind it.
 *
 * @module
 */
import type { PastListing } from "./past_file_system.ts";

/** Listings remembered, over all moments. */
const LISTINGS_MAX = 4;

interface Remembered {
  readonly key: string;
  readonly listing: PastListing;
  /** Made when it is first looked into. */
  places: Map<number, number> | undefined;
}

/** Remembers the directories listed last. */
export class Neighbours {
  readonly #listings: Remembered[] = [];

  /** `key` tells file systems of moments apart. */
  remember(key: string, listing: PastListing): void {
    this.#listings.unshift({ key, listing, places: undefined });
    this.#listings.splice(LISTINGS_MAX);
  }

  /** An inode and those listed behind it, at most `count` together; alone when it was in no listing. */
  from(key: string, inode: number, count: number): number[] {
    for (const remembered of this.#listings) {
      if (remembered.key !== key) continue;
      const index = (remembered.places ??= placesOf(remembered.listing)).get(inode);
      if (index === undefined) continue;
      const end = Math.min(remembered.listing.length, index + count);
      return Array.from({ length: end - index }, (_, at) => remembered.listing.at(index + at).inode);
    }
    return [inode];
  }
}

function placesOf(listing: PastListing): Map<number, number> {
  const places = new Map<number, number>();
  for (let index = listing.length - 1; index >= 0; index--) places.set(listing.at(index).inode, index);
  return places;
}

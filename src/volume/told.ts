/**
 * What the journal's texts tell and the recovery map repeats: gaps, sizes, and who the clients were.
 *
 * @module
 */
import { Clients, saveClients, type UnsavedClients } from "../catalog/clients.ts";
import { type Gap, Gaps, saveGaps } from "../catalog/gaps.ts";
import type { RecoveryMap } from "../catalog/recovery_map.ts";
import { saveSizes, Sizes, type VolumeSize } from "../catalog/sizes.ts";
import { gapsOfText } from "./gap_texts.ts";
import type { JournalText } from "./journal_text.ts";

/** What a map may not have of it: for whoever writes to the map. */
export interface UnsavedTold {
  /** Gaps that have begun or ended. */
  readonly gaps: readonly Gap[];
  /** Every size. */
  readonly sizes: readonly VolumeSize[];
  /** Clients. */
  readonly clients: UnsavedClients;
}

/** The tables of one volume. */
export class Told {
  /** Gaps of its history. */
  readonly gaps: Gaps;
  /** Its sizes. */
  readonly sizes: Sizes;
  /** Who changed it. */
  readonly clients: Clients;
  readonly #map: RecoveryMap;

  /** Begins with what `map` has; `initialBytes` is the size of a volume that has never been resized. */
  constructor(map: RecoveryMap, initialBytes: number) {
    this.#map = map;
    this.gaps = new Gaps(map);
    this.sizes = new Sizes(map, initialBytes);
    this.clients = new Clients(map);
  }

  /** Takes a text that is durable; it may have been told before. */
  take(text: JournalText): void {
    for (const gap of gapsOfText(text)) this.gaps.note(gap);
    switch (text.type) {
      case "client": {
        const { type: _, ...identity } = text;
        this.clients.note(identity);
        break;
      }
      case "resized":
        this.sizes.note({ fromSeq: text.fromSeq, sizeBytes: text.sizeBytes });
        break;
      case "volume":
        for (const size of text.sizes ?? []) this.sizes.note(size);
        this.clients.noteLast(text.lastClient ?? 0);
        break;
      default:
        break;
    }
  }

  /**
   * Brings to the map what it does not have. To be called within a transaction: with every one that moves the position
   * from which the next start reads the journal.
   */
  save(): void {
    saveTold(this.#map, this.unsaved());
  }

  /** What the map may not have, for another thread that writes to it. */
  unsaved(): UnsavedTold {
    return { gaps: this.gaps.unsaved(), sizes: this.sizes.list, clients: this.clients.unsaved() };
  }
}

/** Brings to a map what it does not have. To be called within a transaction. */
export function saveTold(map: RecoveryMap, { gaps, sizes, clients }: UnsavedTold): void {
  saveGaps(map, gaps);
  saveSizes(map, sizes);
  saveClients(map, clients);
}

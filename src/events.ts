/**
 * What happens by itself and people should know: kept in the catalogue, and told to the log.
 *
 * An event about a full disk may find no room itself: then it waits in memory until it can be written.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Clock } from "./base/clock.ts";
import { formatTime } from "./base/time.ts";
import type { Catalog, EventRow } from "./catalog/catalog.ts";
import type { EventCount, EventInfo, EventLevel } from "./engine.ts";

const logger = getLogger(["varve", "events"]);
/** Events kept. */
const EVENTS_MAX = 10_000;
/** Events that wait in memory at most; older ones are dropped. */
const WAITING_MAX = 1000;
const EVENTS_LIMIT = 100;

/** What goes into an event besides its time. */
export interface NewEvent {
  /** How serious it is. */
  readonly level: EventLevel;
  /** What it is. */
  readonly kind: string;
  /** The volume that it is about. */
  readonly volume?: string;
  /** For people: a sentence. */
  readonly message: string;
  /** Particulars. */
  readonly details?: Record<string, unknown>;
}

/** The events of the appliance, the newest {@linkcode EVENTS_MAX} of them. */
export class Events {
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #counts = new Map<string, EventCount>();
  #nextId: number;
  #waiting: EventRow[] = [];
  #toldFailure = false;

  /** Goes on behind the events of `catalog`. */
  constructor(catalog: Catalog, clock: Clock) {
    this.#catalog = catalog;
    this.#clock = clock;
    this.#nextId = (catalog.events({ limit: 1 })[0]?.id ?? 0) + 1;
  }

  /** Tells the log of an event and keeps it. Never throws. */
  add({ level, kind, volume, message, details = {} }: NewEvent): void {
    const words = { kind, message: volume === undefined ? message : `Volume ${volume}: ${message}` };
    if (level === "info") logger.info("{message}", words);
    else if (level === "warning") logger.warn("{message}", words);
    else logger.error("{message}", words);
    const key = `${level} ${kind}`;
    const counted = this.#counts.get(key) ?? { level, kind, count: 0 };
    this.#counts.set(key, { ...counted, count: counted.count + 1 });
    this.#waiting.push({
      id: this.#nextId++,
      timeUs: this.#clock.nowUs(),
      level,
      kind,
      volume,
      message,
      details: JSON.stringify(details),
    });
    this.write();
  }

  /** Writes what waits, if it can be written now. */
  write(): void {
    if (this.#waiting.length === 0) return;
    try {
      this.#catalog.transaction(() => this.#catalog.addEvents(this.#waiting, EVENTS_MAX));
      this.#waiting = [];
      this.#toldFailure = false;
    } catch (thrown) {
      if (!this.#toldFailure) {
        const message = thrown instanceof Error ? thrown.message : String(thrown);
        logger.error("Events wait in memory, for the catalogue cannot take them: {message}", { message });
      }
      this.#toldFailure = true;
      this.#waiting.splice(0, this.#waiting.length - WAITING_MAX);
    }
  }

  /** Events behind `after`, or without it the newest; oldest first. */
  list(options: { limit?: number; after?: number }): EventInfo[] {
    const limit = Math.min(options.limit ?? EVENTS_LIMIT, EVENTS_MAX);
    const { after } = options;
    const kept = this.#catalog.events({ limit, ...(after === undefined ? {} : { after }) });
    const all = kept.concat(this.#waiting.filter((event) => event.id > (after ?? 0)));
    return (after === undefined ? all.slice(-limit) : all.slice(0, limit)).map(eventInfo);
  }

  /** Numbers of events since the start. */
  counts(): EventCount[] {
    return [...this.#counts.values()];
  }
}

function eventInfo(row: EventRow): EventInfo {
  return {
    id: row.id,
    time: formatTime(row.timeUs, 6),
    level: row.level as EventLevel,
    kind: row.kind,
    ...(row.volume === undefined ? {} : { volume: row.volume }),
    message: row.message,
    details: JSON.parse(row.details) as Record<string, unknown>,
  };
}

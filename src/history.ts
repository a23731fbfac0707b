/**
 * Looking into the past of volumes: moments and points.
 *
 * @module
 */
import type { Clock } from "./base/clock.ts";
import { VarveError } from "./base/errors.ts";
import { inTurns, type Scheduler } from "./base/turns.ts";
import type { HistoryPlace } from "./browse/volume_history.ts";
import type { Catalog } from "./catalog/catalog.ts";
import type { Moments } from "./catalog/moments.ts";
import { MOMENT_KINDS, type PackedMoment } from "./catalog/packing.ts";
import type { Moment, PointInfo, PointsPage } from "./engine.ts";
import type { Marks } from "./marks.ts";
import type { PastPlace } from "./timeline/past.ts";
import { listingStart, listPoints } from "./timeline/points.ts";
import { gapsWithin, placeInSpan, resolveMoment, type Span, spanOf } from "./timeline/resolve.ts";
import type { Volumes } from "./volumes.ts";

const POINTS_LIMIT = 1000;
const POINTS_LIMIT_MAX = 10_000;

/** What history is looked into with. */
export interface HistoryParts {
  /** Every volume. */
  readonly volumes: Volumes;
  /** Marks and policies. */
  readonly marks: Marks;
  /** The catalogue. */
  readonly catalog: Catalog;
  /** Time. */
  readonly clock: Clock;
  /** Time zone for times of day: an IANA name. */
  readonly zone: string;
  /** Gives turns. */
  readonly scheduler: Scheduler;
}

/** The past of every volume. */
export class History {
  readonly #volumes: Volumes;
  readonly #marks: Marks;
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #zone: string;
  readonly #scheduler: Scheduler;

  /** Works on `parts`. */
  constructor(parts: HistoryParts) {
    this.#volumes = parts.volumes;
    this.#marks = parts.marks;
    this.#catalog = parts.catalog;
    this.#clock = parts.clock;
    this.#zone = parts.zone;
    this.#scheduler = parts.scheduler;
  }

  /** Finds the exact moment that an expression of the time grammar names. */
  async resolve(name: string, expression: string): Promise<Moment> {
    const { row } = this.#volumes.entry(name);
    const volume = this.#volumes.open(name);
    await volume.settle();
    return resolveMoment(expression, {
      moments: volume.moments,
      findMark: (mark) => this.#catalog.mark(row.id, mark),
      nowUs: this.#clock.nowUs(),
      zone: this.#zone,
    });
  }

  /** Points of a span of time, oldest first. */
  async listPoints(
    name: string,
    options: { from?: string; to?: string; limit?: number; cursor?: string; kinds?: PointInfo["kind"][] },
  ): Promise<PointsPage> {
    const { row } = this.#volumes.entry(name);
    const volume = this.#volumes.open(name);
    await volume.settle();
    const context = {
      findMark: (mark: string) => this.#catalog.mark(row.id, mark),
      nowUs: this.#clock.nowUs(),
      zone: this.#zone,
    };
    const span = spanOf(options, context);
    const gaps = gapsWithin(volume.retainedGaps(), span);
    const after = options.cursor === undefined ? undefined : Number(options.cursor);
    if (after !== undefined && !Number.isSafeInteger(after)) {
      throw new VarveError("invalid", `list points: the cursor ${options.cursor} is none of ours`, {
        field: "cursor",
        hint: "Pass the nextCursor of the page before, as it is.",
      });
    }
    const policy = this.#marks.policy(name);
    const kinds = new Set<PointInfo["kind"]>(options.kinds ?? ["created", "mark", "flush", "tier"]);
    const startUs = beginningOf(
      volume.moments,
      { span, after },
      (moment) => listingStart(moment, policy, kinds),
    );
    const points = listPoints({
      moments: volume.moments.between(startUs, Number.MAX_SAFE_INTEGER),
      marks: this.#catalog.marks(row.id),
      policy,
      nowUs: this.#clock.nowUs(),
      kinds,
    });
    const limit = Math.min(options.limit ?? POINTS_LIMIT, POINTS_LIMIT_MAX);
    const page = await inTurns(takePage(points, { span, after, limit }), this.#scheduler);
    return { ...page, ...(gaps.length === 0 ? {} : { gaps }) };
  }

  /** A moment, and where a Worker finds it; resolves when the recovery map covers it. */
  async locate(name: string, at: string): Promise<{ moment: Moment; place: PastPlace }> {
    const moment = await this.resolve(name, at);
    return { moment, place: await this.locatePast(name, moment.seq) };
  }

  /** Where a Worker finds a moment; resolves when the recovery map covers it. Throws as `Volume.checkPast`. */
  async locatePast(name: string, seq: number): Promise<PastPlace> {
    const volume = this.#volumes.open(name);
    volume.checkPast(`read sequence ${seq} of ${name}`);
    if (seq > volume.indexedSeq) await volume.settle();
    return { directory: volume.directory, sizeBytes: volume.sizes.at(seq) };
  }

  /** Where a Worker finds all of a volume's history up to now; resolves when the recovery map covers it. Throws as `locatePast`. */
  async locateHistory(name: string): Promise<HistoryPlace> {
    const volume = this.#volumes.open(name);
    volume.checkPast(`read the history of ${name}`);
    await volume.settle();
    return { directory: volume.directory, sizes: volume.sizes.list, gaps: volume.retainedGaps() };
  }
}

/** From where on moments are looked at for a page: what lies before its span, or on earlier pages, is not. */
function beginningOf(
  moments: Moments,
  { span, after }: { span: Span; after: number | undefined },
  startOf: (moment: PackedMoment) => number,
): number {
  const starts = [span.fromSeq, after].flatMap((seq) => {
    if (seq === undefined) return [];
    const search = moments.atSeq(seq);
    const moment = search.found ?? search.older;
    return moment === undefined ? [] : [startOf(moment)];
  });
  if (span.fromUs !== undefined) {
    starts.push(startOf({ seq: 0, timeUs: span.fromUs, kind: MOMENT_KINDS.change }));
  }
  return Math.max(0, ...starts);
}

function* takePage(
  points: Iterable<PointInfo | undefined>,
  { span, after = -1, limit }: { span: Span; after: number | undefined; limit: number },
): Generator<void, { points: PointInfo[]; nextCursor?: string }> {
  const page: PointInfo[] = [];
  for (const point of points) {
    if (point === undefined) {
      yield;
      continue;
    }
    const place = placeInSpan(span, point);
    if (place === "after") break;
    if (place === "before" || point.seq <= after) continue;
    const last = page.at(-1);
    if (page.length >= limit && last !== undefined) return { points: page, nextCursor: String(last.seq) };
    page.push(point);
  }
  return { points: page };
}

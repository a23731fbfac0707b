/**
 * Names of points in listings: RFC 3339 UTC with milliseconds, with microseconds where points share one.
 *
 * Of several points in one microsecond the last has the name, as the time grammar would resolve it.
 *
 * @module
 */
import type { Moment, PointInfo } from "../src/engine.ts";

const RFC_3339 = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/;

/** Whether a text looks like a full RFC 3339 time; the time grammar decides whether it is one. */
export function isRfc3339(text: string): boolean {
  return RFC_3339.test(text);
}

/** `2026-11-22T10:15:00.123456Z` with three digits instead of six; the rest is cut off, not rounded. */
function withMilliseconds(time: string): string {
  return `${time.slice(0, 23)}Z`;
}

/** The names of one listing. */
export class PointNames {
  readonly #points: readonly PointInfo[];
  readonly #moments = new Map<string, Moment>();
  readonly #names = new Map<number, string>();
  readonly #shared = new Set<string>();

  /** Takes points oldest first, each with six digits of time. */
  constructor(points: readonly PointInfo[]) {
    this.#points = points;
    const seqs = new Map<string, number>();
    for (const { time, seq } of points) {
      const short = withMilliseconds(time);
      const known = seqs.get(short);
      if (known === undefined) seqs.set(short, seq);
      else if (known !== seq) this.#shared.add(short);
    }
    for (const { time, seq } of points) {
      const short = withMilliseconds(time);
      const name = this.#shared.has(short) ? time : short;
      const earlier = this.#moments.get(name);
      if (earlier !== undefined) this.#names.delete(earlier.seq);
      this.#moments.set(name, { time, seq });
      this.#names.set(seq, name);
    }
  }

  /** Names in the order of time. */
  names(): Iterable<[name: string, moment: Moment]> {
    return this.#moments;
  }

  /** The moment that a listed name stands for. */
  moment(name: string): Moment | undefined {
    return this.#moments.get(name);
  }

  /** The listed name of a sequence, if it has one. */
  name(seq: number): string | undefined {
    return this.#names.get(seq);
  }

  /** Whether several points lie in the millisecond that a name stands for, so that it names none of them. */
  isAmbiguous(name: string): boolean {
    return this.#shared.has(name);
  }

  /** Points that carry a name that somebody gave, oldest first. */
  marks(): (Moment & { name: string })[] {
    return this.#points.flatMap(({ kind, name, time, seq }) =>
      kind === "mark" && name !== undefined ? [{ name, time, seq }] : []
    );
  }

  /** Number of points. */
  get size(): number {
    return this.#moments.size;
  }
}

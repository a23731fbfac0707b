/**
 * Finds the runs of an ordered line of positions over which something stays the same, with few looks.
 *
 * Invariants:
 * - the end of a run is only told where both sides of it were looked at, or where nothing lies between them;
 * - two looks that are `same` say it of everything between them; two that are `unproven` only of themselves. Between those,
 *   positions are looked at, the widest space first, for as long as the patience of a question lasts.
 *
 * @module
 */

/** How two looks relate: `unproven` when they are alike, and something may have been between them. */
export type Relation = "same" | "different" | "unproven";

/** Positions in order. They are whole numbers, and need not follow one another without gaps. */
export interface Line {
  /** The last position at or before a number. */
  atOrBefore(position: number): number | undefined;
  /** The first position behind a number. */
  after(position: number): number | undefined;
}

/** What is looked at. */
export interface Looker {
  /** How a position relates to a later one. */
  relate(earlier: number, later: number): Promise<Relation>;
  /** Told of two positions that are alike, where nobody has the patience to look for something between them. */
  onUnproven(earlier: number, later: number): void;
}

/** Finds runs on one line. */
export class RunFinder {
  readonly #line: Line;
  readonly #looker: Looker;
  readonly #patience: number;

  /** Each question looks at so many positions at most between those that are alike without proof. */
  constructor(line: Line, looker: Looker, patience: number) {
    this.#line = line;
    this.#looker = looker;
    this.#patience = patience;
  }

  /**
   * The first position, not before `low`, of the run that `high` is in. A `guess` near it makes it cheap; how near it is, or
   * whether it lies on the line, does not matter for the answer.
   */
  firstOf(low: number, high: number, guess?: number): Promise<number> {
    return new FirstOfRun(this.#line, this.#looker, this.#patience).find(low, high, guess);
  }

  /** The last position, not behind `high`, of the run that `low` is in. */
  async lastOf(low: number, high: number): Promise<number> {
    const looker: Looker = {
      relate: (earlier, later) => this.#looker.relate(-later, -earlier),
      onUnproven: (earlier, later) => this.#looker.onUnproven(-later, -earlier),
    };
    return -await new FirstOfRun(mirrored(this.#line), looker, this.#patience).halve(-high, -low);
  }
}

/** The same line, walked the other way. */
function mirrored(line: Line): Line {
  return {
    atOrBefore: (position) => negated(line.after(-position - 1)),
    after: (position) => negated(line.atOrBefore(-position - 1)),
  };
}

function negated(position: number | undefined): number | undefined {
  return position === undefined ? undefined : -position;
}

/** One question for the first position of a run. */
class FirstOfRun {
  readonly #line: Line;
  readonly #looker: Looker;
  #patience: number;

  constructor(line: Line, looker: Looker, patience: number) {
    this.#line = line;
    this.#looker = looker;
    this.#patience = patience;
  }

  async find(low: number, high: number, guess: number | undefined): Promise<number> {
    let member = high;
    let at = guess === undefined ? undefined : this.#line.atOrBefore(guess);
    if (at === undefined || at < low || at >= member) at = this.#line.atOrBefore(member - 1);
    else if (await this.#looker.relate(at, member) === "different") return await this.#gallop(at, member);
    for (let step = 1; member > low;) {
      at = Math.max(low, at ?? low);
      const first = await this.halve(at, member);
      if (first !== at) return first;
      step = Math.max(2 * step, member - at);
      member = at;
      at = this.#line.atOrBefore(member - step);
    }
    return member;
  }

  /** When `low` is known to be of another run, and likely to be near its end. */
  async #gallop(low: number, high: number): Promise<number> {
    for (let at = low, step = 1;;) {
      const near = this.#line.atOrBefore(at + step) ?? at;
      const next = near > at ? near : this.#line.after(at) ?? high;
      if (next >= high) return await this.halve(at, high);
      if (await this.#looker.relate(next, high) !== "different") {
        const first = await this.halve(next, high);
        return first === next ? await this.halve(at, next) : first;
      }
      step = 2 * Math.max(step, next - at);
      at = next;
    }
  }

  /** The first position from `low` on of the run that `high` is in. */
  async halve(low: number, high: number): Promise<number> {
    let [other, member] = [low, high];
    while (other < member) {
      const relation = await this.#looker.relate(other, member);
      if (relation === "same") return other;
      const middle = this.#middle(other, member);
      if (relation === "unproven") return await this.#between(other, member);
      if (middle === undefined) return member;
      const first = await this.#isAlike(middle, member) ? await this.#between(middle, member) : undefined;
      if (first === undefined) other = middle;
      else if (first > middle) return first;
      else member = middle;
    }
    return member;
  }

  async #isAlike(earlier: number, later: number): Promise<boolean> {
    return await this.#looker.relate(earlier, later) !== "different";
  }

  /** As `halve`, for two that are alike: looks in the widest space without proof until all is proved, or patience ends. */
  async #between(low: number, high: number): Promise<number> {
    let spaces = await this.#unproved(low, high);
    let first = low;
    for (; spaces.length > 0 && this.#patience > 0; this.#patience--) {
      const [from, to, middle] = spaces.reduce((a, b) => b[1] - b[0] > a[1] - a[0] ? b : a);
      spaces = spaces.filter(([each]) => each !== from);
      if (await this.#isAlike(middle, to)) {
        spaces.push(...await this.#unproved(middle, to));
        if (await this.#isAlike(from, middle)) {
          spaces.push(...await this.#unproved(from, middle));
          continue;
        }
        first = await this.halve(from, middle);
      } else first = await this.halve(middle, to);
      spaces = spaces.filter(([each]) => each >= first);
    }
    for (const [from, to] of spaces) this.#looker.onUnproven(from, to);
    return first;
  }

  /** The space between two that are alike, when something may be in it: its ends and its middle. */
  async #unproved(low: number, high: number): Promise<[number, number, number][]> {
    const middle = this.#middle(low, high);
    if (middle === undefined || await this.#looker.relate(low, high) === "same") return [];
    return [[low, high, middle]];
  }

  /** A position between two others, near their middle when there is one. */
  #middle(low: number, high: number): number | undefined {
    const near = this.#line.atOrBefore(Math.floor((low + high) / 2));
    const middle = near !== undefined && near > low ? near : this.#line.after(low);
    return middle !== undefined && middle < high ? middle : undefined;
  }
}

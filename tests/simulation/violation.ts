/** How a run of the simulation ends before its time. */

/** A promise of the engine was broken. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** The power was cut: what was under way is gone. */
export class LifeEnded extends Error {
  override readonly name = "LifeEnded";
}

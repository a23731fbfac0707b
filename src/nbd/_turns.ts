/**
 * Fairness on one thread: who never has to wait lets others in between.
 *
 * @module
 */
import { setImmediate } from "node:timers";

/** Work without a wait may go on for this long before timers and other sockets get their turn, in milliseconds. */
const SLICE_MS = 2;

let began = performance.now();
let next: Promise<void> | undefined;

/** Tells that the event loop has just turned. */
export function turnBegins(): void {
  began = performance.now();
}

/** Whether the event loop has not turned for so long that others should get their turn, as far as is known. */
export function turnIsOver(): boolean {
  return performance.now() - began > SLICE_MS;
}

/** Resolves when everybody else has had a turn. */
export function nextTurn(): Promise<void> {
  return next ??= new Promise((resolve) => {
    setImmediate(() => {
      next = undefined;
      turnBegins();
      resolve();
    });
  });
}

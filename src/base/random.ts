/**
 * The source of random bytes, handed in as an argument so that a simulation can repeat itself.
 *
 * @module
 */
import { randomBytes } from "node:crypto";

/** Gives `length` random bytes. */
export type RandomSource = (length: number) => Uint8Array<ArrayBuffer>;

/** The machine's own source, fit for secrets. */
export const systemRandom: RandomSource = (length) => new Uint8Array(randomBytes(length));

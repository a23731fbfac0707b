/**
 * What the engine's thread and the serving thread say to each other.
 *
 * ```
 * engine's thread -> serving thread   start, answer, stop
 * serving thread -> engine's thread   ask, ready, ended
 * ```
 *
 * @module
 */
import type { VarveErrorMessage } from "../src/base/errors.ts";
import type { DeviceHandles } from "./device.ts";
import type { TreeSource } from "./tree_source.ts";

/** Where a view of the past lies. */
export interface PastPlace {
  /** Folder of the volume's history. */
  directory: string;
  /** Size of the volume at that moment, in bytes. */
  sizeBytes: number;
}

/** What the serving thread may ask; everything else it does by itself. */
export interface Questions extends Omit<TreeSource, "open"> {
  /** Where the past of a volume at a sequence can be opened. */
  locate(volume: string, seq: number): Promise<PastPlace>;
}

/** To the serving thread. */
export type ToWorker =
  | { readonly kind: "start"; readonly handles: DeviceHandles }
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "answer"; readonly id: number; readonly error: VarveErrorMessage }
  | { readonly kind: "stop" };

/** From the serving thread. */
export type FromWorker =
  | {
    readonly kind: "ask";
    readonly id: number;
    readonly method: keyof Questions;
    readonly parameters: readonly unknown[];
  }
  | { readonly kind: "ready" }
  | { readonly kind: "ended"; readonly error: VarveErrorMessage | undefined };

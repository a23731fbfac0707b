/**
 * What is said to the process that serves disks to the kernel, and by it: one line of JSON each.
 *
 * @module
 */
import { VarveError, type VarveErrorMessage } from "../../src/base/errors.ts";
import type { DiskPiece } from "../../src/guestfs/guest.ts";
import type { PastPlace } from "../../src/timeline/past.ts";

/** A part of a moment's disk. */
export interface DiskPart {
  /** Where the history lies. */
  readonly place: PastPlace;
  /** The moment. */
  readonly seq: number;
  /** Where the part lies on its disk. */
  readonly pieces: readonly DiskPiece[];
}

/** To the process. The end of its input stands for `release` of everything. */
export type ToDisks =
  | ({ readonly kind: "serve"; readonly id: number } & DiskPart)
  /** Nobody will open it any more: it is served until those who have it open have left. */
  | { readonly kind: "release"; readonly id: number }
  /** It ends now: those who have it open get errors. */
  | { readonly kind: "stop"; readonly id: number };

/** From it: `serving` once, if it could be opened, and `ended` once in any case. */
export type FromDisks =
  /** `mount` is its descriptor of a mount whose root is the disk as a file. */
  | { readonly kind: "serving"; readonly id: number; readonly mount: number }
  /** `error` is the first failure of the disk while it was served, or why that could not begin or go on. */
  | { readonly kind: "ended"; readonly id: number; readonly error: VarveErrorMessage | null };

/** A message as it travels. */
export function encodeMessage(message: ToDisks | FromDisks): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${JSON.stringify(message)}\n`);
}

/** Messages as they come in. What comes from the other side is trusted: we started it. */
export async function* decodeMessages<Message extends ToDisks | FromDisks>(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Message> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as Message;
  }
}

/** The error that a message carries. */
export function errorOf(message: VarveErrorMessage | null): VarveError | undefined {
  return message === null ? undefined : VarveError.fromMessage(message);
}

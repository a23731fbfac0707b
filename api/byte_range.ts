/**
 * Byte ranges of RFC 9110, as far as one part goes.
 *
 * @module
 */

/** A part of a file. */
export interface ByteRange {
  /** First byte. */
  offset: number;
  /** Number of bytes, at least one. */
  length: number;
}

/**
 * Reads a `Range` header against a file's size. A header that is absent, malformed or of several parts is to be
 * ignored, as the standard allows: `undefined`. A well-formed range outside the file is `unsatisfiable`.
 */
export function parseRange(
  header: string | undefined,
  sizeBytes: number,
): ByteRange | "unsatisfiable" | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  const [, first = "", last = ""] = match ?? [];
  if (first === "" && last === "") return undefined;
  const isSuffix = first === "";
  const offset = isSuffix ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const end = isSuffix || last === "" ? sizeBytes : Math.min(sizeBytes, Number(last) + 1);
  if (!isSuffix && last !== "" && Number(last) < Number(first)) return undefined;
  return offset < end ? { offset, length: end - offset } : "unsatisfiable";
}

/** The part of a stream of bytes. The source is cancelled as soon as the part is complete. */
export function slice(source: ReadableStream<Uint8Array>, range: ByteRange): ReadableStream<Uint8Array> {
  let skip = range.offset;
  let left = range.length;
  return source.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        const part = chunk.subarray(Math.min(skip, chunk.length)).subarray(0, left);
        skip -= Math.min(skip, chunk.length);
        left -= part.length;
        if (part.length > 0) controller.enqueue(part);
        if (left === 0) controller.terminate();
      },
    }),
  );
}

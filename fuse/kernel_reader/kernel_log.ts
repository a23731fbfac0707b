/**
 * What the kernel says in its log while something is tried: it tells there alone why it refuses a disk.
 *
 * @module
 */
import { cString } from "../libc.ts";
import { libc, OPEN } from "./libc.ts";

const SEEK_END = 2;
const RECORD_BYTES_MAX = 8192;
/** Records looked at; others may fill the log at the same time. */
const RECORDS_MAX = 1000;
const LINES_MAX = 4;

/** The log from now on; empty where it can't be read. */
export class KernelLog implements Disposable {
  readonly #descriptor: number;

  /** Begins here. */
  constructor() {
    this.#descriptor = libc.open(cString("/dev/kmsg"), OPEN.nonBlocking | OPEN.closeOnExec);
    if (this.#descriptor >= 0) libc.lseek(this.#descriptor, 0n, SEEK_END);
  }

  /** The first lines since then that name a word, such as `loop3`. */
  linesAbout(word: string): string[] {
    const lines: string[] = [];
    if (this.#descriptor < 0) return lines;
    const named = new RegExp(`\\b${word}\\b`);
    const buffer = new Uint8Array(RECORD_BYTES_MAX);
    for (let count = 0; count < RECORDS_MAX && lines.length < LINES_MAX; count++) {
      const length = libc.read(this.#descriptor, buffer, BigInt(buffer.length));
      if (length <= 0) break;
      // `priority,sequence,time,flags;text`, and lines with more facts that begin with a space.
      const [record = ""] = new TextDecoder().decode(buffer.subarray(0, length)).split("\n");
      const text = record.slice(record.indexOf(";") + 1);
      if (named.test(text)) lines.push(text);
    }
    return lines;
  }

  [Symbol.dispose](): void {
    if (this.#descriptor >= 0) libc.close(this.#descriptor);
  }
}

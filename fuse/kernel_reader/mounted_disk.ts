/**
 * One disk that the kernel reads: the disk as it is served, and the thread that waits for the kernel.
 *
 * The order at the start: the disk is served, then it is mounted. At the end: it is unmounted while it is still served, for the kernel may
 * have something to write; the thread ends by itself, because its descriptors belong to the process and would outlive it; then the
 * serving ends. A question that takes too long ends the serving first: the kernel's side gets errors for all it waits for, and whoever
 * waits in the kernel comes back.
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
import type { DiskPart } from "./disk_messages.ts";
import type {
  FromReader,
  MountSummary,
  ReaderCallName,
  ReaderCalls,
  ReaderQuestion,
  ReaderQuestionOf,
  ToReader,
} from "./reader_calls.ts";
import type { DiskServer, ServedDisk } from "./served_disks.ts";

/** How long a question may take, in milliseconds. */
const LIMIT_MS = 30_000;
/** How much longer mounting, with its replay, and unmounting may take. */
const LONG_LIMITS = 2;
/** How long the end may take once the kernel's side gets nothing but errors, in milliseconds. */
const END_LIMIT_MS = 5_000;

/** What a {@linkcode MountedDisk} is made of. */
export interface MountedDiskOptions {
  /** Who serves its bytes. */
  readonly server: DiskServer;
  /** Which. */
  readonly part: DiskPart;
  /** Name of the kernel's driver. */
  readonly type: string;
  /** How long a question may take, in milliseconds; mounting may take twice as long. Default 30,000. */
  readonly limitMs?: number;
}

interface Asked {
  readonly limitMs: number;
  resolve(answer: unknown): void;
  reject(error: VarveError): void;
}

/** A disk that the kernel reads. */
export class MountedDisk {
  readonly #disk: ServedDisk;
  readonly #worker: Worker;
  readonly #limitMs: number;
  /** In the order in which they were asked, which is that of the answers. */
  readonly #asked = new Map<number, Asked>();
  readonly #left = Promise.withResolvers<void>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #nextId = 1;
  #failure: VarveError | undefined;

  private constructor(disk: ServedDisk, limitMs: number) {
    this.#disk = disk;
    this.#limitMs = limitMs;
    this.#worker = new Worker(new URL("./reader_worker.ts", import.meta.url), {
      type: "module",
      name: "kernel-reader",
    });
    this.#worker.onmessage = ({ data }: MessageEvent<FromReader>) => this.#hear(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new VarveError("io", `have the kernel read a disk: the worker ended: ${event.message}`));
      this.#left.resolve();
    };
  }

  /**
   * Mounts a disk. Rejects with `unsupported` or `damaged` when the kernel refuses it, with the storage's error when that was the
   * reason, and with `io` when it takes too long.
   */
  static async open(options: MountedDiskOptions): Promise<{ disk: MountedDisk; summary: MountSummary }> {
    const { server, part, type, limitMs = LIMIT_MS } = options;
    const served = await server.serve(part);
    const disk = new MountedDisk(served, limitMs);
    try {
      return { disk, summary: await disk.ask({ call: "mount", disk: served.path, type }) };
    } catch (thrown) {
      await disk.close();
      const failure = await served.ended;
      throw failure !== undefined && failure.code !== "damaged" && failure.code !== "no-space"
        ? failure
        : thrown;
    }
  }

  /** Why it can't be asked any more. */
  get failure(): VarveError | undefined {
    return this.#failure;
  }

  /** Asks the kernel. Rejects with what it says, or with `io` when it takes too long. */
  ask<Name extends ReaderCallName>(question: ReaderQuestionOf<Name>): Promise<ReaderCalls[Name]["answer"]> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return this.#send(question) as Promise<ReaderCalls[Name]["answer"]>;
  }

  #send<Name extends ReaderCallName>(question: ReaderQuestionOf<Name>): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = this.#nextId++;
    const isLong = question.call === "mount" || question.call === "close";
    const limitMs = this.#failure === undefined ? this.#limitMs * (isLong ? LONG_LIMITS : 1) : END_LIMIT_MS;
    this.#asked.set(id, { limitMs, resolve, reject });
    const message: ToReader = { id, question: question as unknown as ReaderQuestion };
    this.#worker.postMessage(message);
    if (this.#asked.size === 1) this.#watch();
    return promise;
  }

  #hear(message: FromReader): void {
    const asked = this.#asked.get(message.id);
    if (asked === undefined) return;
    this.#asked.delete(message.id);
    this.#watch();
    if ("error" in message) asked.reject(VarveError.fromMessage(message.error));
    else asked.resolve(message.answer);
  }

  /** Watches over the first question that has no answer. */
  #watch(): void {
    clearTimeout(this.#timer);
    const [first] = this.#asked.values();
    if (first === undefined) return;
    this.#timer = setTimeout(() => {
      this.#fail(
        new VarveError(
          "io",
          `have the kernel read a disk: no answer within ${Math.round(first.limitMs / 1000)} s`,
          { hint: "The disk may be damaged on purpose; its image can still be read under images/." },
        ),
      );
    }, first.limitMs);
  }

  #fail(error: VarveError): void {
    this.#failure ??= error;
    clearTimeout(this.#timer);
    this.#disk.stop();
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }

  /** Unmounts and waits until that is done; never rejects. */
  async close(): Promise<void> {
    const closed = this.#send({ call: "close" }).then(() => {}, () => {});
    this.#failure ??= new VarveError("cancelled", "have the kernel read a disk: it was closed");
    // One whose serving has ended gets its answers soon, or never: then its thread is stuck in the kernel for good.
    await Promise.race([closed, this.#left.promise]);
    this.#disk.release();
    await this.#endServing();
    this.#worker.terminate();
    clearTimeout(this.#timer);
  }

  /** The unmounting ends it; if not, it is stopped. */
  async #endServing(): Promise<void> {
    const stop = setTimeout(() => this.#disk.stop(), END_LIMIT_MS);
    await this.#disk.ended;
    clearTimeout(stop);
  }
}

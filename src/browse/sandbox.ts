/**
 * The owner's side of one sandbox: a Worker without permissions that reads guests' disks, and one beside it that gives it blocks.
 *
 * A hostile disk may keep a reader busy for ever. So each question has a time limit, which begins when the one before it was answered and does
 * not count the time that our own storage took. When it is up, both Workers are ended: that question fails, the moment
 * it was about is refused from then on, and the questions behind it are asked again in a new sandbox.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { PastPlace } from "../timeline/past.ts";
import { makeChannelMemory, storageMs } from "./block_channel.ts";
import type {
  FromGuest,
  GuestCallName,
  GuestCalls,
  GuestQuestion,
  MomentNumber,
  QuestionOf,
  ToGuest,
} from "./guest_calls.ts";
import type { ToViews } from "./view_worker.ts";

/** How long a question may take without our storage, in milliseconds. */
const LIMIT_MS = 10_000;
/** How long it may take in all, in multiples of the limit. */
const LIMITS_MAX = 6;
/** How long a moment is refused after its reader was ended, in milliseconds: a busy machine may have been to blame. */
const REFUSED_MS = 60_000;

/** What a {@linkcode Sandbox} may be told. */
export interface SandboxOptions {
  /** How long a question may take without our storage, in milliseconds. Default 10,000. */
  readonly limitMs?: number;
  /** Entry of the guest's Worker; tests have their own. */
  readonly guestUrl?: URL;
}

/** A moment whose disk is read. */
export interface SandboxMoment {
  /** Where its history lies. */
  readonly place: PastPlace;
  /** Its sequence. */
  readonly seq: number;
}

interface Registered extends SandboxMoment {
  /** Why it is refused, and until when. */
  refused: { readonly error: VarveError; readonly untilMs: number } | undefined;
}

interface Asked {
  readonly moment: number;
  readonly question: GuestQuestion;
  resolve(answer: unknown): void;
  reject(error: VarveError): void;
}

interface Running {
  readonly guest: Worker;
  readonly views: Worker;
  readonly memory: SharedArrayBuffer;
  /** Whether the guest's Worker listens; until then no question has begun. */
  isReady: boolean;
}

/** Questions go one behind the other; the Workers are started by the first one. */
export class Sandbox {
  readonly #limitMs: number;
  readonly #guestUrl: URL;
  readonly #moments = new Map<number, Registered>();
  /** In the order in which they were asked, which is that of the answers. */
  readonly #asked = new Map<number, Asked>();
  #running: Running | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #nextMoment = 1;
  #nextId = 1;
  #closed = false;

  /** Starts nothing yet. */
  constructor(options: SandboxOptions = {}) {
    this.#limitMs = options.limitMs ?? LIMIT_MS;
    this.#guestUrl = options.guestUrl ?? new URL("./guest_worker.ts", import.meta.url);
  }

  /** Starts the Workers ahead of the first question. */
  start(): void {
    if (!this.#closed) this.#running ??= this.#startWorkers();
  }

  /** Lets a moment be read; answers its number. */
  register(moment: SandboxMoment): number {
    const number = this.#nextMoment++;
    this.#moments.set(number, { ...moment, refused: undefined });
    if (this.#running !== undefined) tell(this.#running.views, registration(number, moment));
    return number;
  }

  /** What the sandbox is told of a moment, for a question about two of them. */
  numberOf(moment: number): MomentNumber {
    const registered = this.#moments.get(moment);
    if (registered !== undefined) return numberOf(moment, registered);
    throw new VarveError("cancelled", "read a guest's disk: the moment was closed");
  }

  /** Ends that; its questions fail. */
  forget(moment: number): void {
    this.#moments.delete(moment);
    if (this.#running === undefined) return;
    tell(this.#running.guest, { kind: "forget", moment });
    tell(this.#running.views, { kind: "forget", moment });
  }

  /** Asks about a moment. Rejects with what the reader threw, or with `io` when it took too long. */
  ask<Name extends GuestCallName>(
    moment: number,
    question: QuestionOf<Name>,
  ): Promise<GuestCalls[Name]["answer"]> {
    const refused = this.#moments.get(moment)?.refused;
    if (refused !== undefined && performance.now() < refused.untilMs) return Promise.reject(refused.error);
    if (this.#closed) {
      return Promise.reject(new VarveError("cancelled", "read a guest's disk: it was closed"));
    }
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = this.#nextId++;
    this.#asked.set(id, { moment, question: question as unknown as GuestQuestion, resolve, reject });
    this.start();
    this.#send(id);
    if (this.#asked.size === 1) this.#watch();
    return promise as Promise<GuestCalls[Name]["answer"]>;
  }

  #send(id: number): void {
    const asked = this.#asked.get(id);
    if (asked === undefined || this.#running === undefined) return;
    const registered = this.#moments.get(asked.moment);
    if (registered === undefined) {
      this.#asked.delete(id);
      return asked.reject(new VarveError("cancelled", "read a guest's disk: the moment was closed"));
    }
    const { moment, question } = asked;
    tell(this.#running.guest, { kind: "ask", id, ...numberOf(moment, registered), question });
  }

  #startWorkers(): Running {
    const memory = makeChannelMemory();
    const { port1, port2 } = new MessageChannel();
    const views = new Worker(new URL("./view_worker.ts", import.meta.url), { type: "module", name: "views" });
    const guest = new Worker(this.#guestUrl, {
      type: "module",
      name: "guest",
      deno: { permissions: "none" },
    });
    const running: Running = { guest, views, memory, isReady: false };
    for (const worker of [guest, views]) {
      worker.onerror = (event) => {
        event.preventDefault();
        this.#restart(new VarveError("io", `read a guest's disk: the worker ended: ${event.message}`));
      };
    }
    guest.onmessage = ({ data }: MessageEvent<FromGuest>) => this.#hear(data);
    tell(views, { kind: "start", memory, port: port1 }, [port1]);
    tell(guest, { kind: "start", memory, port: port2 }, [port2]);
    for (const [number, moment] of this.#moments) tell(views, registration(number, moment));
    return running;
  }

  #hear(message: FromGuest): void {
    if ("ready" in message) {
      if (this.#running !== undefined) this.#running.isReady = true;
      return this.#watch();
    }
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
    this.#timer = undefined;
    const running = this.#running;
    if (running === undefined || this.#asked.size === 0) return;
    const startMs = performance.now();
    const storageStartMs = storageMs(running.memory);
    const look = () => {
      const tookMs = performance.now() - startMs;
      const storedMs = storageMs(running.memory) - storageStartMs;
      const ownMs = running.isReady ? tookMs - storedMs : 0;
      if (ownMs < this.#limitMs && tookMs < this.#limitMs * LIMITS_MAX) {
        this.#timer = setTimeout(look, Math.max(1, this.#limitMs - ownMs));
      } else this.#restart(tooSlow(tookMs));
    };
    this.#timer = setTimeout(look, this.#limitMs);
  }

  /** Ends both Workers; the first question fails, the others are asked again. */
  #restart(error: VarveError): void {
    this.#stop();
    const [first] = this.#asked;
    if (first !== undefined) {
      const [id, asked] = first;
      this.#asked.delete(id);
      const registered = this.#moments.get(asked.moment);
      if (registered !== undefined) registered.refused = { error, untilMs: performance.now() + REFUSED_MS };
      for (const [other, { moment, reject }] of this.#asked) {
        if (moment !== asked.moment) continue;
        this.#asked.delete(other);
        reject(error);
      }
      asked.reject(error);
    }
    if (this.#asked.size === 0) return;
    this.start();
    for (const id of [...this.#asked.keys()]) this.#send(id);
    this.#watch();
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#running?.guest.terminate();
    this.#running?.views.terminate();
    this.#running = undefined;
  }

  /** Ends both Workers for good; questions without an answer are rejected. */
  close(): void {
    this.#closed = true;
    this.#stop();
    const error = new VarveError("cancelled", "read a guest's disk: it was closed");
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }
}

function numberOf(moment: number, { seq, place }: SandboxMoment): MomentNumber {
  return { moment, seq, sizeBytes: place.sizeBytes, volume: place.directory };
}

function registration(moment: number, { place, seq }: SandboxMoment): ToViews {
  return { kind: "register", moment, place, seq };
}

function tell(worker: Worker, message: ToGuest | ToViews, transfer: Transferable[] = []): void {
  worker.postMessage(message, transfer);
}

function tooSlow(tookMs: number): VarveError {
  return new VarveError(
    "io",
    `read a guest's disk: its reader was ended after ${Math.round(tookMs / 1000)} s without an answer`,
    { hint: "The disk may be damaged on purpose; its image can still be read under images/." },
  );
}

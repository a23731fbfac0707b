/**
 * Fuzzes the NBD server: mutated conversations over connections in memory, from a seed.
 *
 * Each conversation has a seed of its own, the one after the seed of the conversation before, so that one that goes wrong
 * is run again alone. What must hold: no conversation throws or hangs, nothing stays open, no storage problem is
 * reported, and the twin finds every message of the server well formed and every complete request answered once.
 */
import { MemoryDevice } from "../../src/base/memory_device.ts";
import { SeededRandom } from "../../src/base/seeded_random.ts";
import type { MapRun } from "../../src/nbd/exports.ts";
import { concat, RawClient, TestExports } from "../../src/nbd/_testing.ts";
import { NbdServer } from "../../src/nbd/server.ts";
import { EXPORT_BYTES, EXPORT_NAMES, makeConversation, MAP_NAME, mutate } from "./conversations.ts";
import { compare } from "./twin.ts";

/** A conversation that takes longer than this hangs. */
const HANG_MS = 60_000;

/** How much is fuzzed. */
export interface FuzzOptions {
  /** Seed of the first conversation. */
  readonly seed: number;
  /** Ends with the conversation in which this many mutated messages have been sent. */
  readonly messages: number;
  /** Called after each conversation. */
  readonly onProgress?: (outcome: FuzzOutcome) => void;
}

/** What was fuzzed. */
export interface FuzzOutcome {
  /** Conversations that ended well. */
  conversations: number;
  /** Messages in mutated conversations that were sent. */
  messages: number;
  /** Requests that arrived completely. */
  requests: number;
  /** Replies of the server. */
  replies: number;
}

/** Runs conversations; throws an `Error` with the seed of the first one that went wrong. */
export async function fuzz({ seed, messages, onProgress }: FuzzOptions): Promise<FuzzOutcome> {
  const outcome: FuzzOutcome = { conversations: 0, messages: 0, requests: 0, replies: 0 };
  const server = new FuzzedServer();
  while (outcome.messages < messages) {
    const own = seed + outcome.conversations;
    try {
      await server.converse(new SeededRandom(own), outcome);
    } catch (thrown) {
      throw new Error(`conversation of seed ${own}: ${thrown instanceof Error ? thrown.message : thrown}`, {
        cause: thrown,
      });
    }
    outcome.conversations++;
    onProgress?.(outcome);
  }
  return outcome;
}

class FuzzedServer {
  readonly #problems: Error[] = [];
  readonly #exports: TestExports;
  readonly #server: NbdServer;

  constructor() {
    const content = new SeededRandom(1).bytes(300_000);
    this.#exports = new TestExports(
      Object.fromEntries(EXPORT_NAMES.map((name) => {
        const device = new MemoryDevice(EXPORT_BYTES, { readOnly: name === "past", content });
        return [name, device];
      })),
      {
        list: () => [MAP_NAME],
        open: (name) => Promise.resolve(name === MAP_NAME ? { runs: everySecondBlock } : undefined),
      },
    );
    this.#server = new NbdServer({
      exports: this.#exports,
      handshakeTimeoutMs: 10 * HANG_MS,
      tls: { required: false, upgrade: () => Promise.reject(new Error("this is no place for secrets")) },
      onProblem: (error) => this.#problems.push(error),
    });
  }

  async converse(random: SeededRandom, outcome: FuzzOutcome): Promise<void> {
    const messages = mutate(makeConversation(random), random);
    const { client, done } = RawClient.inMemory(this.#server, { apart: random.oneIn(2) });
    const receivedAll = client.receiveAll();
    for (const message of messages) {
      const cut = random.oneIn(15) ? random.below(message.length + 1) : message.length;
      await client.send(message.subarray(0, cut));
      if (random.oneIn(3)) await Promise.resolve();
      await client.send(message.subarray(cut));
    }
    const isCut = random.oneIn(5);
    if (isCut) client.close();
    else client.endSending();
    await inTime(done);
    const { requests, replies } = compare(concat(...messages), await receivedAll, isCut);
    outcome.messages += messages.length;
    outcome.requests += requests;
    outcome.replies += replies;
    const [problem] = this.#problems;
    if (problem !== undefined) throw problem;
    if (this.#server.connections() > 0) throw new Error("the connection is still there");
    if (this.#exports.opened !== this.#exports.closed) throw new Error("an export is still open");
    this.#exports.clients.length = 0;
  }
}

/** A map that answers at once or later. */
function everySecondBlock(offset: number, length: number, max: number): MapRun[] | Promise<MapRun[]> {
  const runs: MapRun[] = [];
  for (let at = offset; at < offset + length && runs.length < max;) {
    const until = Math.min((Math.floor(at / 4096) + 1) * 4096, offset + length);
    runs.push({ length: until - at, flags: Math.floor(at / 4096) % 2 });
    at = until;
  }
  return offset % 2 === 0 ? runs : Promise.resolve(runs);
}

async function inTime(done: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`it hangs: no end after ${HANG_MS / 1000} s`)), HANG_MS);
  try {
    await Promise.race([done, promise]);
  } finally {
    clearTimeout(timer);
  }
}

import assert from "node:assert/strict";
import fc from "fast-check";
import type { BlockDevice, Extent } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import type { ChannelOrder } from "./_channel_child.ts";
import { BlockServer, makeChannelMemory, type ServedMoment, storageMs } from "./block_channel.ts";

const SIZE_BYTES = 5_000_000;
/** Reading these bytes fails. */
const BAD = { from: 1_000_000, to: 1_000_100 };

const content = Uint8Array.from({ length: SIZE_BYTES }, (_, at) => (at * 31) ^ (at >>> 8));

function find(moment: number): ServedMoment | undefined {
  if (moment === 9) return undefined;
  return {
    device: deviceOf(moment),
    newestChange: (offset, length) => moment * 10 ** 12 + offset + length,
    region: (region) => ({
      fromSeq: 0,
      endSeq: 100,
      extents: [1, 2, 5].map((seq) => ({
        seq: seq + 10 * region,
        firstBlock: seq * 10,
        blockCount: 5,
        segment: 1,
        recordOffset: 0,
        payloadBlock: 0,
      })),
    }),
  };
}

function deviceOf(moment: number): BlockDevice {
  const memory = new MemoryDevice(SIZE_BYTES, { content, readOnly: true });
  return Object.assign(Object.create(memory), {
    sizeBytes: SIZE_BYTES,
    read(offset: number, target: Uint8Array) {
      if (offset < BAD.to && offset + target.length > BAD.from) {
        throw new VarveError("damaged", "read the past: a block is not right", { hint: "Scrub it." });
      }
      target.set(content.subarray(offset, offset + target.length));
      if (moment === 2) { for (let at = 0; at < target.length; at++) target[at] = ~(target[at] ?? 0); }
    },
    extents(offset: number, length: number, max = Infinity): Extent[] {
      const list: Extent[] = [];
      for (let at = offset; at < offset + length && list.length < max;) {
        const next = Math.min(offset + length, (Math.floor(at / 1000) + 1) * 1000);
        list.push({ offset: at, length: next - at, kind: Math.floor(at / 1000) % 2 === 0 ? "data" : "hole" });
        at = next;
      }
      return list;
    },
  });
}

/** Both sides of a channel; the serving one is this thread. */
class TestChannel implements Disposable {
  readonly memory = makeChannelMemory();
  readonly server = new BlockServer(this.memory, find);
  readonly #child = new Worker(new URL("./_channel_child.ts", import.meta.url), { type: "module" });
  readonly #ports = new MessageChannel();

  constructor() {
    this.#ports.port1.onmessage = () => this.server.serve();
    this.#child.postMessage({ memory: this.memory, port: this.#ports.port2 }, [this.#ports.port2]);
  }

  carryOut(orders: ChannelOrder[]): Promise<unknown[]> {
    return new Promise((resolve) => {
      this.#child.onmessage = ({ data }) => resolve(data);
      this.#child.postMessage({ sizeBytes: SIZE_BYTES, orders });
    });
  }

  [Symbol.dispose](): void {
    this.#child.terminate();
    this.#ports.port1.close();
  }
}

Deno.test("a channel gives any range of any moment, and its errors", async () => {
  using channel = new TestChannel();
  const range = fc.tuple(
    fc.nat(SIZE_BYTES),
    fc.oneof(fc.nat(5000), fc.nat(2_500_000)),
    fc.constantFrom(1, 2),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 5 }), async (ranges) => {
      const orders = ranges.map(([offset, length, moment]): ChannelOrder => (
        { kind: "read", moment, offset, length: Math.min(length, SIZE_BYTES - offset) }
      ));
      for (const [index, answer] of (await channel.carryOut(orders)).entries()) {
        const { offset = 0, length = 0, moment } = orders[index] ?? {};
        if (offset < BAD.to && offset + length > BAD.from && length > 0) {
          assert.deepEqual({ ...(answer as object) }, {
            code: "damaged",
            message: "read the past: a block is not right",
            hint: "Scrub it.",
            field: undefined,
            details: undefined,
          });
          continue;
        }
        const expected = content.slice(offset, offset + length);
        if (moment === 2) { for (let at = 0; at < length; at++) expected[at] = ~(expected[at] ?? 0); }
        assert.ok(answer instanceof Uint8Array && expected.length === answer.length);
        assert.ok(expected.every((byte, at) => byte === answer[at]), `${length} bytes at ${offset}`);
      }
    }),
    { numRuns: 60 },
  );
  assert.ok(storageMs(channel.memory) >= 0);
});

Deno.test("a bad block fails nobody who reads beside it", async () => {
  using channel = new TestChannel();
  const [before, bad, behind] = await channel.carryOut([
    { kind: "read", moment: 1, offset: BAD.from - 10, length: 10 },
    { kind: "read", moment: 1, offset: BAD.from - 10, length: 11 },
    { kind: "read", moment: 1, offset: BAD.to, length: 10 },
  ]);
  assert.deepEqual(before, content.slice(BAD.from - 10, BAD.from));
  assert.equal((bad as { code: string }).code, "damaged");
  assert.deepEqual(behind, content.slice(BAD.to, BAD.to + 10));
});

Deno.test("a channel tells extents, at most as many as asked for", async () => {
  using channel = new TestChannel();
  const orders: ChannelOrder[] = [
    { kind: "extents", moment: 1, offset: 500, length: 2000 },
    { kind: "extents", moment: 1, offset: 500, length: 4_000_000, max: 2 },
    { kind: "extents", moment: 1, offset: 0, length: 0 },
    { kind: "extents", moment: 1, offset: 0, length: SIZE_BYTES },
  ];
  const [few, limited, none, all] = await channel.carryOut(orders) as Extent[][];
  assert.deepEqual(few, [
    { offset: 500, length: 500, kind: "data" },
    { offset: 1000, length: 1000, kind: "hole" },
    { offset: 2000, length: 500, kind: "data" },
  ]);
  assert.deepEqual(limited?.map(({ offset }) => offset), [500, 1000]);
  assert.deepEqual(none, []);
  assert.equal(all?.length, SIZE_BYTES / 1000);
});

Deno.test("a channel tells when a range was changed last", async () => {
  using channel = new TestChannel();
  const region = 16 * 1024 ** 2;
  const ask = (offset: number, length: number): ChannelOrder => ({
    kind: "newest",
    moment: 2,
    offset,
    length,
  });
  const answers = await channel.carryOut([
    ask(7, 50 * region),
    ask(0, 10 * 4096),
    ask(0, 10 * 4096 + 1),
    ask(14 * 4096, 7 * 4096),
    ask(25 * 4096, 100),
    ask(region - 10, 4096 * 11),
    ask(55 * 4096, region),
  ]);
  assert.deepEqual(answers, [2 * 10 ** 12 + 7 + 50 * region, 0, 1, 2, 0, 11, 15]);
});

Deno.test("who asks for a moment that is not known waits until the serving side is called again", async () => {
  using channel = new TestChannel();
  const waiting = channel.carryOut([{ kind: "read", moment: 9, offset: 0, length: 1 }]);
  const late = await Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 100, "waiting"))]);
  assert.equal(late, "waiting");
  const server = new BlockServer(channel.memory, () => find(1));
  server.serve();
  assert.deepEqual(await waiting, [content.slice(0, 1)]);
});

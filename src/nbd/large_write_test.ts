import fc from "fast-check";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { CommandOptions } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import { noise, RawClient, request, TestExports } from "./_testing.ts";
import { NbdServer } from "./server.ts";

const KIB = 1024;
const SIZE = 4 * KIB * KIB;
/** More than a receive brings, and the rest is worth receiving it apart. */
const LARGE = 512 * KIB;
const [READ, WRITE, DISC, FLUSH, TRIM] = [0, 1, 2, 3, 4] as const;
const FUA = 1;
const [EIO, ENOSPC] = [5, 28] as const;

/** Tells of every change and commit, and prepares what it is told to when the test lets it. */
class TellingDevice extends MemoryDevice {
  readonly calls: string[] = [];
  readonly preparations = new Map<number, Promise<void>>();

  prepare(offset: number): Promise<void> | undefined {
    return this.preparations.get(offset);
  }
  override write(offset: number, data: Uint8Array, { fua }: CommandOptions = {}): void {
    this.calls.push(`write ${offset}${fua ? " fua" : ""}`);
    super.write(offset, data);
  }
  override commit(): void {
    this.calls.push("commit");
  }
  override sync(): Promise<void> {
    this.calls.push("sync");
    return Promise.resolve();
  }
}

async function enter(device: MemoryDevice) {
  const exports = new TestExports({ disk: device });
  const server = new NbdServer({ exports });
  const { client, done } = RawClient.inMemory(server, { apart: true });
  await client.enter("disk");
  return { client, done, exports, server };
}

Deno.test("large writes: each is committed and answered by itself, in order, and read back", async () => {
  const device = new TellingDevice(SIZE);
  const { client, done } = await enter(device);
  const payloads = [1, 2, 3].map((seed) => noise(LARGE, seed));
  await client.send(
    ...payloads.map((payload, i) =>
      request({ type: WRITE, flags: i === 1 ? FUA : 0, cookie: BigInt(i), offset: i * LARGE, payload })
    ),
    request({ type: READ, cookie: 3n, offset: LARGE, length: LARGE }),
    request({ type: DISC }),
  );
  const replies = [];
  for (let i = 0; i < 3; i++) replies.push(await client.reply());
  assert.deepEqual(replies.filter(({ error }) => error !== 0), []);
  assert.deepEqual(replies.map(({ cookie }) => cookie).sort(), [0n, 1n, 2n]);
  assert.deepEqual(await client.reply(), { error: 0, cookie: 3n });
  assert(Buffer.from(await client.receive(LARGE)).equals(payloads[1] ?? Buffer.alloc(0)));
  await done;
  const writes = device.calls.filter((call) => call.startsWith("write"));
  assert.deepEqual(writes, ["write 0", `write ${LARGE} fua`, `write ${2 * LARGE}`]);
  assert.equal(device.calls.filter((call) => call === "commit").length, 3);
  assert.equal(
    device.calls[device.calls.indexOf(writes[1] ?? "") + 2],
    "sync",
    "a sync follows the FUA write",
  );
});

Deno.test("large writes: one that is cut off in its payload never happened, the one before it did", async () => {
  for (const missing of [1, 200 * KIB, LARGE - 1]) {
    const device = new TellingDevice(SIZE);
    const { client, done, exports } = await enter(device);
    const second = request({ type: WRITE, cookie: 2n, offset: LARGE, payload: noise(LARGE, 2) });
    await client.send(
      request({ type: WRITE, cookie: 1n, payload: noise(LARGE, 1) }),
      second.subarray(0, second.length - missing),
    );
    assert.deepEqual(await client.reply(), { error: 0, cookie: 1n });
    client.endSending();
    await done;
    assert.deepEqual(device.calls, ["write 0", "commit"], `${missing} bytes are missing`);
    assert.equal(exports.closed, 1);
  }
});

Deno.test("large writes: one that waits for the device's preparation is not overtaken, nor run once the connection is cut", async () => {
  const device = new TellingDevice(SIZE);
  const first = Promise.withResolvers<void>();
  device.preparations.set(0, first.promise);
  const second = Promise.withResolvers<void>();
  device.preparations.set(LARGE, second.promise);
  const { client, done, server } = await enter(device);
  await client.send(
    request({ type: WRITE, cookie: 1n, payload: noise(LARGE, 1) }),
    request({ type: WRITE, cookie: 2n, offset: LARGE, payload: noise(LARGE, 2) }),
  );
  await turns();
  assert.deepEqual(device.calls, []);
  first.reject(new VarveError("io", "read the primary: a bad sector"));
  assert.deepEqual(await client.reply(), { error: EIO, cookie: 1n });
  await turns();
  const closed = server.close({ graceMs: 0 });
  while ((await client.receiveAll()).length > 0);
  second.resolve();
  await closed;
  await done;
  assert.deepEqual(device.calls, []);
});

Deno.test("large writes: a refused one costs the client that command alone", async () => {
  const device = new TellingDevice(SIZE);
  const { client, done } = await enter(device);
  await client.send(
    request({ type: WRITE, cookie: 1n, payload: noise(LARGE, 1) }),
    request({ type: WRITE, cookie: 2n, offset: SIZE - LARGE + 1, payload: noise(LARGE, 2) }),
    request({ type: WRITE, cookie: 3n, offset: LARGE, payload: noise(LARGE, 3) }),
    request({ type: DISC }),
  );
  const errors = new Map<bigint, number>();
  for (let i = 0; i < 3; i++) {
    const { error, cookie } = await client.reply();
    errors.set(cookie, error);
  }
  assert.deepEqual([1n, 2n, 3n].map((cookie) => errors.get(cookie)), [0, ENOSPC, 0]);
  await done;
  assert.deepEqual(device.calls, ["write 0", "commit", `write ${LARGE}`, "commit"]);
});

Deno.test("large writes: a server that stops ends the one under way, and begins no other", async () => {
  const device = new TellingDevice(SIZE);
  const { client, done, server } = await enter(device);
  const first = request({ type: WRITE, cookie: 1n, payload: noise(LARGE, 1) });
  await client.send(first.subarray(0, 300 * KIB));
  await turns();
  const closed = server.close({ graceMs: 60_000 });
  await turns();
  await client.send(
    first.subarray(300 * KIB),
    request({ type: WRITE, cookie: 2n, offset: LARGE, payload: noise(LARGE, 2) }),
  );
  assert.deepEqual(await client.reply(), { error: 0, cookie: 1n });
  await closed;
  await done;
  assert.deepEqual(device.calls, ["write 0", "commit"]);
});

Deno.test("large writes: mixed with other commands they act like a byte array", async () => {
  const size = 1400 * KIB;
  const range = fc.tuple(
    fc.nat(size),
    fc.oneof(fc.nat(9000), fc.integer({ min: 120 * KIB, max: 900 * KIB })),
  );
  const command = fc.record({
    type: fc.constantFrom<number>(READ, WRITE, WRITE, WRITE, TRIM, FLUSH),
    range,
    flags: fc.constantFrom(0, 0, FUA),
    seed: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 12 }), async (commands) => {
      const model = new Uint8Array(size);
      const { client, done } = await enter(new MemoryDevice(size));
      const expected = new Map<bigint, { isError: boolean; data: Uint8Array }>();
      await client.send(...commands.map(({ type, range: [at, bytes], flags, seed }, i) => {
        const [offset, length] = type === FLUSH ? [0, 0] : [at, bytes];
        const isError = offset + length > size;
        const payload = type === WRITE ? noise(length, seed) : new Uint8Array();
        if (!isError && type === WRITE) model.set(payload, offset);
        if (!isError && type === TRIM) model.fill(0, offset, offset + length);
        const data = !isError && type === READ ? model.slice(offset, offset + length) : new Uint8Array();
        expected.set(BigInt(i), { isError, data });
        return request({
          type,
          flags: type === FLUSH ? 0 : flags,
          cookie: BigInt(i),
          offset,
          length,
          payload,
        });
      }));
      while (expected.size > 0) {
        const { error, cookie } = await client.reply();
        const wanted = expected.get(cookie);
        assert(wanted !== undefined && expected.delete(cookie));
        assert.equal(error !== 0, wanted.isError);
        assert(Buffer.from(await client.receive(wanted.data.length)).equals(wanted.data));
      }
      await client.send(request({ type: DISC }));
      await done;
    }),
    { numRuns: 60 },
  );
});

/** Lets everything that waits for nothing go on. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 200; turn++) await Promise.resolve();
}

Deno.test("large writes: a payload is none of the requests, also when much else has to be waited for first", async () => {
  const device = new TellingDevice(SIZE);
  const flushes: (() => void)[] = [];
  device.flush = () => new Promise((resolve) => flushes.push(resolve));
  const synced = Promise.withResolvers<void>();
  device.sync = () => synced.promise;
  const { client, done } = await enter(device);
  // As many waits as may be, one more at the end of the batch, and a large payload has begun.
  const whole = request({ type: WRITE, cookie: 3n, payload: noise(LARGE) });
  await client.send(
    ...Array.from({ length: 1024 }, () => request({ type: FLUSH, cookie: 1n })),
    request({ type: WRITE, cookie: 2n, flags: FUA, payload: noise(5) }),
    whole.subarray(0, 60_000),
  );
  while (flushes.length < 1024) await new Promise((resolve) => setTimeout(resolve));
  for (const resolve of flushes) resolve();
  synced.resolve();
  await client.send(whole.subarray(60_000), request({ type: DISC }));
  for (let count = 0; count < 1026; count++) assert.equal((await client.reply()).error, 0);
  assert.equal((await client.receiveAll()).length, 0);
  await done;
  const found = new Uint8Array(LARGE);
  device.read(0, found);
  assert.ok(Buffer.from(found).equals(noise(LARGE)));
});

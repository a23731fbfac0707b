import fc from "fast-check";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { BlockDevice, CommandOptions } from "../base/block_device.ts";
import { ERROR_CODES, type ErrorCode, VarveError } from "../base/errors.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import { concat, noise, RawClient, request, TestExports, u32, u64 } from "./_testing.ts";
import { NbdServer } from "./server.ts";

const SIZE = 64 * 1024 + 3;
const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const [FUA, NO_HOLE, FAST_ZERO] = [1, 2, 16] as const;
const [EPERM, EIO, EINVAL, ENOSPC, ESHUTDOWN] = [1, 5, 22, 28, 108] as const;

async function enter(device: BlockDevice, onProblem: (error: VarveError) => void = () => {}) {
  const exports = new TestExports({ disk: device });
  const { client, done } = RawClient.inMemory(new NbdServer({ exports, onProblem }));
  await client.enter("disk");
  const ask = async (fields: Parameters<typeof request>[0]) => {
    await client.send(request(fields));
    return (await client.reply()).error;
  };
  const leave = async () => {
    await client.send(request({ type: DISC }));
    assert.equal((await client.receiveAll()).length, 0);
    await done;
    assert.equal(exports.closed, 1);
  };
  return { client, done, exports, ask, leave };
}

/** Writes down every call; a call named in `failing` throws, `flush` and `sync` wait until released. */
class RecordingDevice extends MemoryDevice {
  readonly calls: string[] = [];
  readonly failing = new Map<string, unknown>();
  waiting: (() => void)[] = [];
  holding = false;

  override read(offset: number, target: Uint8Array): void {
    this.#record("read", offset, target.length);
    super.read(offset, target);
  }
  override write(offset: number, data: Uint8Array, options: CommandOptions = {}): void {
    this.#record("write", offset, data.length, options);
    super.write(offset, data);
  }
  override trim(offset: number, length: number, options: CommandOptions = {}): void {
    this.#record("trim", offset, length, options);
    super.trim(offset, length);
  }
  override zero(offset: number, length: number, options: CommandOptions = {}): void {
    this.#record("zero", offset, length, options);
    super.zero(offset, length);
  }
  override commit(): void {
    this.#record("commit");
  }
  override flush(options: CommandOptions = {}): Promise<void> {
    this.#record("flush", options);
    return this.#hold();
  }
  override sync(): Promise<void> {
    this.#record("sync");
    return this.#hold();
  }
  release(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
  #hold(): Promise<void> {
    return this.holding ? new Promise((resolve) => this.waiting.push(resolve)) : Promise.resolve();
  }
  #record(name: string, ...facts: unknown[]): void {
    this.calls.push([name, ...facts.map((fact) => JSON.stringify(fact))].join(" "));
    if (this.failing.has(name)) throw this.failing.get(name);
  }
}

Deno.test("transmission: one batch is one commit, one sync and replies to everything", async () => {
  const device = new RecordingDevice(SIZE);
  const { client, leave } = await enter(device);
  await client.send(
    request({ type: WRITE, cookie: 1n, offset: 1, payload: new Uint8Array(5) }),
    request({ type: READ, cookie: 2n, offset: 3, length: 2 }),
    request({ type: TRIM, cookie: 3n, offset: 7, length: 11, flags: FUA }),
    request({ type: WRITE_ZEROES, cookie: 4n, offset: 0, length: SIZE, flags: FUA | NO_HOLE }),
    request({ type: FLUSH, cookie: 5n }),
  );
  const cookies = new Set<bigint>();
  for (let count = 0; count < 5; count++) {
    const { error, cookie } = await client.reply();
    assert.equal(error, 0);
    if (cookie === 2n) await client.receive(2);
    cookies.add(cookie);
  }
  assert.deepEqual(cookies, new Set([1n, 2n, 3n, 4n, 5n]));
  assert.deepEqual(device.calls, [
    'write 1 5 {"client":1,"fua":false}',
    "read 3 2",
    'trim 7 11 {"client":1,"fua":true}',
    `zero 0 ${SIZE} {"client":1,"fua":true}`,
    'flush {"client":1}',
    "commit",
    "sync",
  ]);
  await leave();
});

/** Has to be prepared for changes of more than ten bytes, and waits until it is released. */
class PreparingDevice extends RecordingDevice {
  readonly preparations: { offset: number; length: number; end: (error?: VarveError) => void }[] = [];

  prepare(offset: number, length: number): Promise<void> | undefined {
    if (length <= 10) return undefined;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.preparations.push({
      offset,
      length,
      end: (error) => error === undefined ? resolve() : reject(error),
    });
    return promise;
  }
}

Deno.test("transmission: a change waits until the device is prepared, what came before it does not", async () => {
  const device = new PreparingDevice(SIZE);
  const { client, leave } = await enter(device);
  await client.send(
    request({ type: WRITE, cookie: 1n, payload: noise(10) }),
    request({ type: TRIM, cookie: 2n, offset: 5, length: 20 }),
    request({ type: WRITE, cookie: 3n, offset: 6, payload: noise(1) }),
    request({ type: WRITE, cookie: 4n, payload: noise(30) }),
  );
  assert.deepEqual(await client.reply(), { error: 0, cookie: 1n });
  assert.deepEqual(device.calls, ['write 0 10 {"client":1,"fua":false}', "commit"]);
  assert.deepEqual(device.preparations.map(({ offset, length }) => [offset, length]), [[5, 20]]);
  device.preparations[0]?.end();
  assert.deepEqual(await client.reply(), { error: 0, cookie: 2n });
  assert.deepEqual(await client.reply(), { error: 0, cookie: 3n });
  assert.deepEqual(device.calls.slice(2), [
    'trim 5 20 {"client":1,"fua":false}',
    'write 6 1 {"client":1,"fua":false}',
    "commit",
  ]);
  assert.equal(device.preparations.length, 2, "prepared once for each change");
  device.preparations[1]?.end(new VarveError("io", "read the primary: a bad sector"));
  assert.deepEqual(await client.reply(), { error: EIO, cookie: 4n });
  assert.equal(device.calls.length, 5, "what could not be prepared is not run");
  await leave();
});

Deno.test("transmission: FLUSH and FUA wait for storage without holding up what comes later", async () => {
  const device = new RecordingDevice(SIZE);
  device.holding = true;
  const { client, leave } = await enter(device);
  await client.send(request({ type: FLUSH, cookie: 1n }));
  await client.send(request({ type: WRITE, cookie: 2n, flags: FUA, payload: noise(10) }));
  await client.send(request({ type: READ, cookie: 3n, length: 10 }));
  assert.deepEqual(await client.reply(), { error: 0, cookie: 3n });
  assert.deepEqual(await client.receive(10), noise(10));
  device.release();
  assert.deepEqual([await client.reply(), await client.reply()], [{ error: 0, cookie: 1n }, {
    error: 0,
    cookie: 2n,
  }]);
  device.holding = false;
  await leave();
});

Deno.test("transmission: DISC waits for the replies of commands under way", async () => {
  const device = new RecordingDevice(SIZE);
  device.holding = true;
  const { client, done } = await enter(device);
  await client.send(
    request({ type: FLUSH, cookie: 1n }),
    request({ type: DISC }),
    request({ type: READ, length: 1 }),
  );
  while (device.waiting.length === 0) await Promise.resolve();
  device.release();
  assert.equal((await client.receiveAll()).length, 16);
  await done;
});

Deno.test("transmission: what the device holds is answered when it is no longer held, other commands before", async () => {
  const held = Promise.withResolvers<void>();
  let isHeld = true;
  class HoldingDevice extends RecordingDevice {
    held(): Promise<void> | undefined {
      return isHeld ? held.promise : undefined;
    }
  }
  const { client, ask, leave } = await enter(new HoldingDevice(SIZE));
  await client.send(
    request({ type: WRITE, cookie: 1n, payload: noise(3) }),
    request({ type: READ, cookie: 2n, length: 0 }),
  );
  assert.equal((await client.reply()).cookie, 2n);
  isHeld = false;
  held.reject(new VarveError("no-space", "full"));
  assert.deepEqual(await client.reply(), { cookie: 1n, error: ENOSPC });
  assert.equal(await ask({ type: WRITE, payload: noise(3) }), 0);
  await leave();
});

Deno.test("transmission: a failed flush, sync or commit fails exactly what it was to make durable", async () => {
  const problems: string[] = [];
  const device = new RecordingDevice(SIZE);
  const { client, ask, leave } = await enter(device, (error) => problems.push(error.code));
  device.failing.set("flush", new VarveError("io", "the disk is gone"));
  assert.equal(await ask({ type: FLUSH }), EIO);
  device.failing.set("sync", new Error("anything"));
  assert.equal(await ask({ type: WRITE, payload: noise(3), flags: FUA }), EIO);
  assert.equal(await ask({ type: WRITE, payload: noise(3) }), 0);
  device.failing.set("commit", new VarveError("no-space", "full"));
  await client.send(
    request({ type: WRITE, cookie: 1n, payload: noise(3) }),
    request({ type: TRIM, cookie: 2n, length: 3, flags: FUA }),
    request({ type: READ, cookie: 3n, length: 0 }),
  );
  const errors = new Map<bigint, number>();
  for (let count = 0; count < 3; count++) {
    const { cookie, error } = await client.reply();
    errors.set(cookie, error);
  }
  assert.deepEqual([errors.get(1n), errors.get(2n), errors.get(3n)], [ENOSPC, ENOSPC, 0]);
  assert.deepEqual(problems, ["io", "io", "no-space"]);
  await leave();
});

Deno.test("transmission: every error code of the device becomes the right NBD error", async () => {
  const expected: Record<ErrorCode, [read: number, write: number, zero: number, trim: number]> = {
    "invalid": [EINVAL, EINVAL, EINVAL, EINVAL],
    "not-found": [EIO, EIO, EIO, EIO],
    "conflict": [EIO, EIO, EIO, EIO],
    "not-retained": [EIO, EIO, EIO, EIO],
    "out-of-range": [EINVAL, ENOSPC, ENOSPC, EINVAL],
    "read-only": [EPERM, EPERM, EPERM, EPERM],
    "no-space": [ENOSPC, ENOSPC, ENOSPC, ENOSPC],
    "io": [EIO, EIO, EIO, EIO],
    "damaged": [EIO, EIO, EIO, EIO],
    "unsupported": [EINVAL, EINVAL, EINVAL, EINVAL],
    "forbidden": [EPERM, EPERM, EPERM, EPERM],
    "cancelled": [ESHUTDOWN, ESHUTDOWN, ESHUTDOWN, ESHUTDOWN],
  };
  const device = new RecordingDevice(SIZE);
  const { ask, leave } = await enter(device);
  for (const code of ERROR_CODES) {
    for (const name of ["read", "write", "zero", "trim"]) {
      device.failing.set(name, new VarveError(code, "no"));
    }
    assert.deepEqual(
      [
        await ask({ type: READ, length: 5 }),
        await ask({ type: WRITE, payload: noise(5) }),
        await ask({ type: WRITE_ZEROES, length: 5 }),
        await ask({ type: TRIM, length: 5 }),
      ],
      expected[code],
      code,
    );
  }
  await leave();
});

Deno.test("transmission: requests beyond the end are refused with the protocol's errors and survived", async () => {
  const device = new RecordingDevice(SIZE);
  const { ask, client, leave } = await enter(device);
  const far = [
    BigInt(SIZE) - 4n,
    BigInt(SIZE),
    BigInt(SIZE) + 1n,
    2n ** 32n,
    2n ** 53n,
    2n ** 53n + 1n,
    2n ** 64n - 5n,
  ];
  for (const offset of far) {
    assert.equal(await ask({ type: READ, offset, length: 5 }), EINVAL);
    assert.equal(await ask({ type: WRITE, offset, payload: noise(5) }), ENOSPC);
    assert.equal(await ask({ type: WRITE_ZEROES, offset, length: 5 }), ENOSPC);
    assert.equal(await ask({ type: TRIM, offset, length: 5 }), EINVAL);
  }
  assert.equal(await ask({ type: WRITE_ZEROES, length: 0xffff_ffff }), ENOSPC);
  assert.equal(await ask({ type: TRIM, length: 0xffff_ffff }), EINVAL);
  assert.equal(await ask({ type: READ, offset: SIZE + 1 }), EINVAL);
  assert.deepEqual(device.calls, []);
  assert.equal(await ask({ type: WRITE, offset: SIZE - 5, payload: noise(5) }), 0);
  assert.equal(await ask({ type: READ, offset: SIZE - 5, length: 5 }), 0);
  assert.deepEqual(await client.receive(5), noise(5));
  await leave();
});

Deno.test("transmission: CACHE reads the whole range in pieces, others run meanwhile, and fails as a READ does", async () => {
  const size = 5 * 1024 * 1024 + 3;
  const device = new RecordingDevice(size);
  const { ask, client, leave } = await enter(device);
  assert.equal(await ask({ type: CACHE, offset: 1, length: size - 1 }), 0);
  const pieces = device.calls.splice(0).map((call) => call.split(" ").map(Number).slice(1));
  let at = 1;
  for (const [offset, length] of pieces) {
    assert.equal(offset, at);
    assert.ok(length !== undefined && length > 0 && length <= 1024 * 1024);
    at += length;
  }
  assert.equal(at, size);
  assert.equal(await ask({ type: CACHE, offset: size }), 0);
  assert.equal(await ask({ type: CACHE, offset: size - 4, length: 5 }), EINVAL);
  assert.deepEqual(device.calls, []);
  await client.send(
    request({ type: CACHE, cookie: 1n, length: size }),
    request({ type: READ, cookie: 2n, length: 0 }),
  );
  assert.equal((await client.reply()).cookie, 2n);
  assert.deepEqual(await client.reply(), { error: 0, cookie: 1n });
  device.failing.set("read", new VarveError("damaged", "bad"));
  assert.equal(await ask({ type: CACHE, length: 1 }), EIO);
  await leave();
});

Deno.test("transmission: a length of 2^32 - 1 trims and zeroes at once", async () => {
  const device = new MemoryDevice(2 ** 41);
  device.write(2 ** 32, noise(8192));
  const { ask, leave } = await enter(device);
  assert.equal(await ask({ type: TRIM, offset: 2 ** 32 + 1, length: 0xffff_ffff }), 0);
  assert.equal(await ask({ type: WRITE_ZEROES, offset: 2 ** 40, length: 0xffff_ffff }), 0);
  assert.deepEqual(device.extents(2 ** 32, 8192), [
    { offset: 2 ** 32, length: 4096, kind: "data" },
    { offset: 2 ** 32 + 4096, length: 4096, kind: "hole" },
  ]);
  await leave();
});

Deno.test("transmission: a zero length succeeds without troubling the device", async () => {
  const device = new RecordingDevice(SIZE);
  const { ask, leave } = await enter(device);
  for (const type of [READ, WRITE, TRIM, WRITE_ZEROES]) {
    for (const offset of [0, 7, SIZE]) assert.equal(await ask({ type, offset }), 0);
  }
  assert.deepEqual(new Set(device.calls), new Set(["commit"]));
  assert.equal(await ask({ type: WRITE, flags: FUA }), 0);
  assert.equal(device.calls.at(-1), "sync");
  await leave();
});

Deno.test("transmission: unknown commands and flags are refused and survived", async () => {
  const { ask, client, leave } = await enter(new MemoryDevice(SIZE));
  for (const type of [BLOCK_STATUS, 8, 99, 0xffff]) {
    assert.equal(await ask({ type, length: 4096 }), EINVAL);
  }
  for (const flags of [NO_HOLE, FAST_ZERO, 4, 8, 32, 0x8000]) {
    assert.equal(await ask({ type: READ, flags, length: 1 }), EINVAL);
    assert.equal(await ask({ type: WRITE, flags, payload: noise(100) }), EINVAL);
    assert.equal(await ask({ type: TRIM, flags, length: 1 }), EINVAL);
    assert.equal(await ask({ type: FLUSH, flags }), EINVAL);
    assert.equal(await ask({ type: CACHE, flags, length: 1 }), EINVAL);
    const isOfZeroes = flags === NO_HOLE || flags === FAST_ZERO;
    assert.equal(await ask({ type: WRITE_ZEROES, flags, length: 1 }), isOfZeroes ? 0 : EINVAL);
  }
  assert.equal(await ask({ type: FLUSH, offset: 1 }), EINVAL);
  assert.equal(await ask({ type: FLUSH, length: 1 }), EINVAL);
  assert.equal(await ask({ type: FLUSH, flags: FUA }), 0);
  assert.equal(await ask({ type: READ, flags: FUA, length: 2 }), 0);
  assert.deepEqual(await client.receive(2), new Uint8Array(2));
  await leave();
});

Deno.test("transmission: a read-only export refuses changes, drains payloads and flushes without a boundary", async () => {
  const device = new MemoryDevice(SIZE, { readOnly: true, content: noise(100) });
  device.flush = () => Promise.reject(new VarveError("read-only", "no"));
  const { ask, client, leave } = await enter(device);
  assert.equal(await ask({ type: WRITE, payload: noise(SIZE) }), EPERM);
  assert.equal(await ask({ type: TRIM, length: 1 }), EPERM);
  assert.equal(await ask({ type: WRITE_ZEROES, length: 1 }), EPERM);
  assert.equal(await ask({ type: FLUSH }), 0);
  assert.equal(await ask({ type: READ, length: 100 }), 0);
  assert.deepEqual(await client.receive(100), noise(100));
  await leave();
});

Deno.test("transmission: payloads to 32 MiB are served, above it refused after draining", async () => {
  const largest = 32 * 1024 * 1024;
  const device = new MemoryDevice(2 * largest);
  const { ask, client, leave } = await enter(device);
  const payload = noise(largest);
  assert.equal(await ask({ type: WRITE, offset: 12345, payload }), 0);
  assert.equal(await ask({ type: READ, offset: 12345, length: largest }), 0);
  assert.ok(Buffer.from(await client.receive(largest)).equals(payload));
  assert.equal(await ask({ type: READ, length: largest + 1 }), EINVAL);
  assert.equal(await ask({ type: WRITE, payload: new Uint8Array(largest + 1) }), EINVAL);
  assert.equal(await ask({ type: FLUSH }), 0);
  await leave();
});

Deno.test("transmission: a payload that nobody would send closes", async () => {
  const { client, done } = await enter(new MemoryDevice(SIZE));
  await client.send(request({ type: WRITE, length: 0xffff_ffff }));
  assert.equal((await client.receiveAll()).length, 0);
  await done;
});

Deno.test("transmission: a wrong magic number closes after the replies before it", async () => {
  const device = new RecordingDevice(SIZE);
  const { client, done } = await enter(device);
  await client.send(
    request({ type: WRITE, payload: noise(4) }),
    request({ magic: 0x25609514, length: 1 }),
    request({}),
  );
  assert.deepEqual(await client.receiveAll(), concat(u32(0x67446698), u32(0), u64(1n)));
  await done;
  assert.deepEqual(device.calls.map((call) => call.split(" ")[0]), ["write", "commit"]);
});

Deno.test("transmission: a WRITE cut off in its payload never happened", async () => {
  for (const missing of [1, 4096, 4097]) {
    const device = new RecordingDevice(SIZE);
    const { client, done, exports } = await enter(device);
    const whole = request({ type: WRITE, payload: noise(4096) });
    await client.send(
      request({ type: WRITE, offset: 9, payload: noise(9) }),
      whole.subarray(0, whole.length - missing),
    );
    client.endSending();
    assert.equal((await client.receiveAll()).length, 16);
    await done;
    assert.deepEqual(device.calls.filter((call) => call.startsWith("write")).length, 1);
    assert.equal(exports.closed, 1);
  }
});

Deno.test("transmission: a client that stops sending still gets the replies it waits for", async () => {
  const device = new RecordingDevice(SIZE);
  device.holding = true;
  const { client, done } = await enter(device);
  await client.send(request({ type: FLUSH, cookie: 7n }));
  client.endSending();
  while (device.waiting.length === 0) await Promise.resolve();
  device.release();
  assert.deepEqual(await client.reply(), { error: 0, cookie: 7n });
  assert.equal((await client.receiveAll()).length, 0);
  await done;
});

Deno.test("transmission: the export is closed only when storage has answered a client that left", async () => {
  const device = new RecordingDevice(SIZE);
  device.holding = true;
  const { client, done, exports } = await enter(device);
  await client.send(request({ type: FLUSH }));
  while (device.waiting.length === 0) await Promise.resolve();
  client.close();
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
  assert.equal(exports.closed, 0);
  device.release();
  await done;
  assert.equal(exports.closed, 1);
});

Deno.test("transmission: requests in any pieces give the same replies", async () => {
  const bytes = concat(
    request({ type: WRITE, cookie: 1n, offset: 5, payload: noise(300) }),
    request({ type: WRITE, cookie: 2n, offset: SIZE, payload: noise(70) }),
    request({ type: READ, cookie: 3n, offset: 4, length: 302 }),
  );
  const expected = concat(
    concat(u32(0x67446698), u32(0), u64(1n)),
    concat(u32(0x67446698), u32(ENOSPC), u64(2n)),
    concat(u32(0x67446698), u32(0), u64(3n), Uint8Array.of(0), noise(300), Uint8Array.of(0)),
  );
  for (const pieceBytes of [1, 27, 28, 29, 100]) {
    const { client, done } = await enter(new MemoryDevice(SIZE));
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      await client.send(bytes.subarray(at, at + pieceBytes));
      for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    }
    client.endSending();
    assert.deepEqual(await client.receiveAll(), expected, `pieces of ${pieceBytes}`);
    await done;
  }
});

Deno.test("transmission: many large reads asked for at once are all answered", async () => {
  const device = new MemoryDevice(1024 * 1024, { content: noise(1024 * 1024) });
  const { client, leave } = await enter(device);
  const count = 64;
  await client.send(
    ...Array.from({ length: count }, (_, at) => request({ cookie: BigInt(at), length: 1024 * 1024 })),
  );
  for (let at = 0; at < count; at++) {
    assert.deepEqual(await client.reply(), { error: 0, cookie: BigInt(at) });
    assert.ok(Buffer.from(await client.receive(1024 * 1024)).equals(noise(1024 * 1024)));
  }
  await leave();
});

Deno.test("transmission: any sequence of commands acts like a byte array", async () => {
  const size = 20_000;
  const range = fc.tuple(fc.nat(size), fc.nat(9000));
  const command = fc.oneof(
    fc.record({ type: fc.constant<number>(READ), range, flags: fc.constant(0), seed: fc.constant(0) }),
    fc.record({ type: fc.constant<number>(WRITE), range, flags: fc.constantFrom(0, FUA), seed: fc.nat() }),
    fc.record({
      type: fc.constantFrom<number>(TRIM, WRITE_ZEROES),
      range,
      flags: fc.constantFrom(0, FUA),
      seed: fc.constant(0),
    }),
    fc.constant({ type: FLUSH as number, range: [0, 0] as [number, number], flags: 0, seed: 0 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(command, { maxLength: 8 }), { maxLength: 8 }), async (batches) => {
      const model = new Uint8Array(size);
      const { client, leave } = await enter(new MemoryDevice(size));
      for (const batch of batches) {
        const expected = new Map<bigint, { error: number; data: Uint8Array }>();
        await client.send(...batch.map(({ type, range: [offset, length], flags, seed }, at) => {
          const inside = offset + length <= size;
          const nothing = new Uint8Array();
          const error = inside ? 0 : type === WRITE || type === WRITE_ZEROES ? ENOSPC : EINVAL;
          const payload = type === WRITE ? noise(length, seed) : nothing;
          if (inside && type === WRITE) model.set(payload, offset);
          if (inside && (type === TRIM || type === WRITE_ZEROES)) model.fill(0, offset, offset + length);
          const data = inside && type === READ ? model.slice(offset, offset + length) : nothing;
          expected.set(BigInt(at), { error, data });
          return request({ type, flags, cookie: BigInt(at), offset, length, payload });
        }));
        while (expected.size > 0) {
          const { error, cookie } = await client.reply();
          const wanted = expected.get(cookie);
          assert.ok(wanted !== undefined && expected.delete(cookie));
          assert.equal(error, wanted.error);
          assert.deepEqual(await client.receive(wanted.data.length), wanted.data);
        }
      }
      await leave();
    }),
    { numRuns: 100 },
  );
});

import assert from "node:assert/strict";
import type { Scheduler } from "../base/turns.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import {
  concat,
  enterDevice,
  extendedRequest,
  infoData,
  noise,
  option,
  RawClient,
  request,
  TestExports,
  u32,
  utf8,
} from "./_testing.ts";
import type { OpenExport } from "./exports.ts";
import { Rep } from "./protocol.ts";
import { NbdServer } from "./server.ts";

const [READ, WRITE, FLUSH, CACHE] = [0, 1, 3, 5] as const;
const ESHUTDOWN = 108;

/** Time that stands still until it is told to go on. */
class ManualTime implements Scheduler {
  #nowMs = 0;
  readonly #timers = new Set<{ atMs: number; work: () => void }>();

  ticksMs(): number {
    return this.#nowMs;
  }
  after(delayMs: number, work: () => void) {
    const timer = { atMs: this.#nowMs + delayMs, work };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }
  get timers(): number {
    return this.#timers.size;
  }
  /** Lets time go by, and everything that follows from it. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#nowMs = due.atMs;
      due.work();
    }
    this.#nowMs = untilMs;
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 200; turn++) await Promise.resolve();
}

Deno.test("limits: a client that sends nothing is cut off after the idle limit, one that sends is not", async () => {
  const scheduler = new ManualTime();
  const server = { scheduler, idleTimeoutMs: 1000, handshakeTimeoutMs: 10 };
  const { client, ask, done, exports } = await enterDevice(new MemoryDevice(4096), { server });
  for (let count = 0; count < 20; count++) {
    await scheduler.pass(900);
    assert.equal((await ask({ type: READ, length: 1 })).length, 1);
  }
  await scheduler.pass(999);
  assert.equal(exports.closed, 0);
  await scheduler.pass(1);
  assert.equal((await client.receiveAll()).length, 0);
  await done;
  assert.deepEqual([exports.closed, scheduler.timers], [1, 0]);
});

Deno.test("limits: without an idle limit no timer runs and a client may rest for days", async () => {
  const scheduler = new ManualTime();
  const { ask, leave } = await enterDevice(new MemoryDevice(4096), { server: { scheduler } });
  await scheduler.pass(7 * 24 * 3600 * 1000);
  assert.equal(scheduler.timers, 0);
  assert.equal((await ask({ type: READ, length: 1 })).length, 1);
  await leave();
});

Deno.test("limits: a client that waits for storage is not idle", async () => {
  const scheduler = new ManualTime();
  const device = new MemoryDevice(4096);
  const flushed = Promise.withResolvers<void>();
  device.flush = () => flushed.promise;
  const { client, leave } = await enterDevice(device, { server: { scheduler, idleTimeoutMs: 1000 } });
  await client.send(request({ type: FLUSH, cookie: 4n }));
  await scheduler.pass(10_000);
  flushed.resolve();
  assert.equal((await client.chunk()).cookie, 4n);
  await leave();
});

Deno.test("limits: a client is not idle while a change of it is prepared, however long it rested before", async () => {
  const scheduler = new ManualTime();
  const prepared = Promise.withResolvers<void>();
  const device = Object.assign(new MemoryDevice(4096), { prepare: () => prepared.promise });
  const { client, leave } = await enterDevice(device, { server: { scheduler, idleTimeoutMs: 1000 } });
  await scheduler.pass(900);
  await client.send(request({ type: WRITE, cookie: 4n, payload: noise(1) }));
  await scheduler.pass(10_000);
  prepared.resolve();
  assert.deepEqual((await client.chunk()).type, 0);
  await leave();
});

Deno.test("limits: a client that takes no replies is cut off after the idle limit", async () => {
  const scheduler = new ManualTime();
  const exports = new TestExports({ disk: new MemoryDevice(32 * 1024 * 1024) });
  const server = new NbdServer({ exports, scheduler, idleTimeoutMs: 1000 });
  const parts = [u32(3), option(1, utf8("disk")), request({ length: 32 * 1024 * 1024 }), request({})];
  let incoming = concat(...parts);
  const closed = Promise.withResolvers<never>();
  let writes = 0;
  const done = server.serve({
    peer: "deaf",
    read(target) {
      if (incoming.length === 0) return closed.promise;
      const length = Math.min(target.length, incoming.length);
      target.set(incoming.subarray(0, length));
      incoming = incoming.subarray(length);
      return length;
    },
    write: () => ++writes <= 2 ? undefined : closed.promise,
    close: () => closed.reject(new Error("closed")),
  });
  await scheduler.pass(900);
  assert.deepEqual([writes, exports.closed], [3, 0]);
  await scheduler.pass(1100);
  await done;
  assert.equal(exports.closed, 1);
});

Deno.test("limits: clients in their handshake are counted apart, and make room when they are through", async () => {
  const exports = new TestExports({ disk: new MemoryDevice(4096) });
  const server = new NbdServer({ exports, maxHandshakes: 2 });
  const [first, second] = [RawClient.inMemory(server), RawClient.inMemory(server)];
  const third = RawClient.inMemory(server);
  assert.equal((await third.client.receiveAll()).length, 0);
  await first.client.enter("disk");
  await first.client.send(request({}));
  await first.client.reply();
  const fourth = RawClient.inMemory(server);
  await fourth.client.greet();
  assert.equal((await RawClient.inMemory(server).client.receiveAll()).length, 0);
  for (const { client, done } of [first, second, fourth]) {
    client.close();
    await done;
  }
  assert.equal(server.connections(), 0);
});

Deno.test("close: an option under way is answered with ERR_SHUTDOWN, and no export is entered", async () => {
  for (const kind of [6, 7]) {
    const opening = Promise.withResolvers<void>();
    let closed = 0;
    const opened: OpenExport = {
      device: new MemoryDevice(4096),
      description: "",
      client: 1,
      close: () => void closed++,
    };
    const exports = { list: () => [], open: () => opening.promise.then(() => opened) };
    const server = new NbdServer({ exports });
    const { client, done } = RawClient.inMemory(server);
    await client.greet();
    await client.send(option(kind, infoData("disk")));
    await settle();
    const end = server.close({ graceMs: 60_000 });
    await settle();
    opening.resolve();
    const replies = await client.optionReplies();
    assert.deepEqual(replies.map(({ type }) => type), [Rep.ERR_SHUTDOWN]);
    assert.equal((await client.receiveAll()).length, 0);
    await end;
    await done;
    assert.equal(closed, 1);
  }
});

Deno.test("close: an option that is answered all the same is the last one", async () => {
  const listed = Promise.withResolvers<void>();
  const server = new NbdServer({
    exports: { list: () => listed.promise.then(() => []), open: () => Promise.resolve(undefined) },
    scheduler: new ManualTime(),
  });
  const { client, done } = RawClient.inMemory(server);
  await client.greet();
  await client.send(option(3));
  await settle();
  const end = server.close({ graceMs: 60_000 });
  await settle();
  listed.resolve();
  assert.equal((await client.optionReply()).type, Rep.ACK);
  assert.equal((await client.receiveAll()).length, 0);
  await end;
  await done;
});

Deno.test("close: an export that is entered in that moment is closed again", async () => {
  const exports = new TestExports({ disk: new MemoryDevice(4096) });
  const server = new NbdServer({ exports });
  let incoming = concat(u32(3), option(1, utf8("disk")));
  const closed = Promise.withResolvers<never>();
  closed.promise.catch(() => {});
  let end: Promise<void> | undefined;
  let writes = 0;
  await server.serve({
    peer: "prompt",
    read(target) {
      if (incoming.length === 0) return closed.promise;
      target.set(incoming);
      const { length } = incoming;
      incoming = new Uint8Array();
      return length;
    },
    write() {
      if (++writes === 2) end = server.close({ graceMs: 60_000 });
    },
    close: () => closed.reject(new Error("closed")),
  });
  await end;
  assert.deepEqual([writes, exports.opened, exports.closed], [2, 1, 1]);
});

Deno.test("close: half an option is waited for and refused, ABORT acknowledged", async () => {
  for (const [kind, type] of [[3, Rep.ERR_SHUTDOWN], [2, Rep.ACK]] as const) {
    const server = new NbdServer({ exports: new TestExports({}) });
    const { client, done } = RawClient.inMemory(server);
    await client.greet();
    const bytes = option(kind);
    await client.send(bytes.subarray(0, 9));
    await settle();
    const end = server.close({ graceMs: 60_000 });
    await client.send(bytes.subarray(9));
    assert.equal((await client.optionReply()).type, type);
    await end;
    await done;
  }
});

Deno.test("close: what arrives after it is refused with ESHUTDOWN, what had begun before is executed", async () => {
  const device = new MemoryDevice(8192);
  const { client, server, done } = await enterDevice(device);
  const old = request({ type: WRITE, cookie: 1n, payload: noise(100) });
  await client.send(old.subarray(0, 60));
  await settle();
  const end = server.close({ graceMs: 60_000 });
  await client.send(
    old.subarray(60),
    request({ type: WRITE, cookie: 2n, offset: 4096, payload: noise(100) }),
    request({ type: READ, cookie: 3n, length: 100 }),
    request({ type: WRITE, cookie: 4n, offset: 4096, payload: noise(100) }).subarray(0, 99),
  );
  const errors = new Map<bigint, number>();
  for (let count = 0; count < 3; count++) {
    const { cookie, type, content } = await client.chunk();
    errors.set(cookie, type === 0 ? 0 : new DataView(content.buffer).getUint32(0));
  }
  assert.deepEqual(errors, new Map([[2n, ESHUTDOWN], [3n, ESHUTDOWN], [1n, 0]]));
  assert.equal((await client.receiveAll()).length, 0);
  await end;
  await done;
  assert.deepEqual(device.extents(0, 8192).map(({ kind }) => kind), ["data", "hole"]);
});

Deno.test("close: a long CACHE ends with ESHUTDOWN", async () => {
  const device = new MemoryDevice(2 ** 50);
  let reads = 0;
  device.read = () => void reads++;
  const { client, server, done } = await enterDevice(device, { form: "simple" });
  const cache = request({ type: CACHE, length: 0xffff_ffff });
  await client.send(...Array.from({ length: 500 }, () => cache));
  while (reads === 0) await new Promise((resolve) => setTimeout(resolve));
  const end = server.close({ graceMs: 60_000 });
  const errors = new Set<number>();
  for (let count = 0; count < 500; count++) errors.add((await client.reply()).error);
  assert.ok(errors.has(ESHUTDOWN));
  await end;
  await done;
  assert.ok(reads < 500 * 4096);
});

Deno.test("connections: much CACHE under way ends when the connection is lost", async () => {
  const device = new MemoryDevice(2 ** 50);
  device.read = () => {};
  const exports = new TestExports({ disk: device });
  const cache = extendedRequest({ type: CACHE, length: 2 ** 50 });
  const caches = Array.from({ length: 1500 }, () => cache);
  let incoming = concat(
    u32(3),
    option(11),
    option(7, infoData("disk")),
    extendedRequest({ type: READ }),
    ...caches,
  );
  const lost = Promise.withResolvers<never>();
  lost.promise.catch(() => {});
  let writes = 0;
  await new NbdServer({ exports }).serve({
    peer: "flaky",
    read(target) {
      const length = Math.min(target.length, incoming.length);
      target.set(incoming.subarray(0, length));
      incoming = incoming.subarray(length);
      return length === 0 ? lost.promise : length;
    },
    async write() {
      if (++writes <= 3) return;
      await new Promise((resolve) => setTimeout(resolve));
      throw new Error("reset by peer");
    },
    close: () => lost.reject(new Error("closed")),
  });
  assert.deepEqual([writes, exports.closed], [4, 1]);
});

Deno.test("close: a client that never stops sending does not hold it up", async () => {
  const { client, server, done } = await enterDevice(new MemoryDevice(4096));
  let stopped = false;
  const sender = (async () => {
    while (!stopped) {
      await client.send(request({ type: READ, length: 10 }), request({ type: FLUSH }).subarray(0, 20));
      await client.send(request({ type: FLUSH }).subarray(20));
      await new Promise((resolve) => setTimeout(resolve));
    }
  })();
  await settle();
  await server.close({ graceMs: 60_000 });
  await done;
  stopped = true;
  await sender;
});

Deno.test("connections: nothing runs and nothing is said for a client whose connection was cut", async () => {
  const device = new MemoryDevice(1 << 20);
  const prepared = Promise.withResolvers<void>();
  const calls: string[] = [];
  Object.assign(device, { prepare: () => prepared.promise, write: () => void calls.push("write") });
  const flushed = Promise.withResolvers<void>();
  device.flush = () => flushed.promise;
  const { client, server, done, exports } = await enterDevice(device);
  await client.send(
    request({ type: FLUSH, cookie: 1n }),
    request({ type: WRITE, cookie: 2n, payload: noise(10) }),
    request({ type: READ, cookie: 3n, length: 1 }),
  );
  await settle();
  const end = server.close({ graceMs: 0 });
  assert.equal((await client.receiveAll()).length, 0);
  prepared.resolve();
  await settle();
  assert.equal(exports.closed, 0, "the flush is under way");
  flushed.resolve();
  await end;
  await done;
  assert.deepEqual([calls, exports.closed], [[], 1]);
});

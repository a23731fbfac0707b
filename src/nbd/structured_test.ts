import assert from "node:assert/strict";
import type { Extent } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import { concat, enterDevice, errorIn, noise, type ReplyChunk, request, u32, u64 } from "./_testing.ts";

const [READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS] = [0, 1, 3, 4, 5, 6, 7] as const;
const DF = 4;
const [NONE, OFFSET_DATA, OFFSET_HOLE, ERROR, ERROR_OFFSET] = [0, 1, 2, 0x8001, 0x8002] as const;
const [EPERM, EIO, EINVAL, ENOSPC] = [1, 5, 22, 28] as const;
const KIB = 1024;

/** What content chunks say of a range; each byte must be told once. */
function assemble(chunks: ReplyChunk[], offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(0xee);
  const told = new Uint8Array(length);
  for (const { type, content } of chunks) {
    if (type !== OFFSET_DATA && type !== OFFSET_HOLE) continue;
    const view = new DataView(content.buffer);
    const at = Number(view.getBigUint64(0)) - offset;
    const data = type === OFFSET_DATA ? content.subarray(8) : new Uint8Array(view.getUint32(8));
    assert.ok(data.length > 0 && at >= 0 && at + data.length <= length);
    bytes.set(data, at);
    for (let index = at; index < at + data.length; index++) {
      assert.equal(told[index], 0);
      told[index] = 1;
    }
  }
  assert.ok(told.every((times) => times === 1));
  return bytes;
}

Deno.test("structured: a READ is one chunk of data, with its place", async () => {
  const device = new MemoryDevice(100_000, { content: noise(100_000) });
  const { ask, leave, flags } = await enterDevice(device);
  assert.equal(flags, 0xded);
  assert.deepEqual(await ask({ type: READ, cookie: 7n, offset: 4097, length: 4096 }), [{
    done: true,
    type: OFFSET_DATA,
    cookie: 7n,
    content: concat(u64(4097n), noise(100_000).subarray(4097, 8193)),
  }]);
  const [chunk] = await ask({ type: READ, offset: 0, length: 100_000, flags: DF });
  assert.deepEqual(chunk?.content, concat(u64(0n), noise(100_000)));
  await leave();
});

Deno.test("structured: every success without content is one NONE chunk, also of nothing at all", async () => {
  const { ask, leave } = await enterDevice(new MemoryDevice(100_000));
  for (const type of [READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES]) {
    const reply = { done: true, type: NONE, cookie: 3n, content: new Uint8Array() };
    assert.deepEqual(await ask({ type, cookie: 3n }), [reply], `command ${type}`);
  }
  assert.equal((await ask({ type: WRITE, payload: noise(10) }))[0]?.type, NONE);
  await leave();
});

Deno.test("structured: every error is one chunk with a message", async () => {
  const cases = [
    [{ type: READ, offset: 99_999, length: 2 }, EINVAL, /2 bytes at 99999: the export ends at 100000/],
    [{ type: WRITE, offset: 99_999, payload: noise(2) }, ENOSPC, /the export ends at/],
    [{ type: WRITE_ZEROES, offset: 99_999, length: 2 }, ENOSPC, /the export ends at/],
    [{ type: TRIM, offset: 99_999, length: 2 }, EINVAL, /the export ends at/],
    [{ type: CACHE, offset: 99_999, length: 2 }, EINVAL, /the export ends at/],
    [{ type: BLOCK_STATUS, length: 10 }, EINVAL, /no metadata context/],
    [{ type: 99 }, EINVAL, /unknown command/],
    [{ type: READ, length: 0xffff_ffff }, EINVAL, /longer than/],
    [{ type: FLUSH, length: 1 }, EINVAL, /no offset/],
    [{ type: WRITE, flags: DF, payload: noise(9) }, EINVAL, /a flag/],
    [{ type: TRIM, flags: DF, length: 9 }, EINVAL, /a flag/],
    [{ type: READ, flags: 8, length: 9 }, EINVAL, /a flag/],
    [{ type: READ, flags: 32, length: 9 }, EINVAL, /a flag/],
  ] as const;
  const { ask, leave } = await enterDevice(new MemoryDevice(100_000));
  for (const [fields, error, message] of cases) {
    const [chunk, ...more] = await ask(fields);
    assert.deepEqual([chunk?.type, chunk?.done, more], [ERROR, true, []]);
    const found = errorIn(chunk);
    assert.equal(found?.error, error);
    assert.match(found?.message ?? "", message);
  }
  await leave();
  const past = await enterDevice(new MemoryDevice(100_000, { readOnly: true }));
  assert.equal(errorIn((await past.ask({ type: WRITE, payload: noise(9) }))[0])?.error, EPERM);
  await past.leave();
});

Deno.test("structured: what the device throws reaches the client with its message, cut to a bounded length", async () => {
  const device = new MemoryDevice(4096);
  const { ask, leave } = await enterDevice(device);
  const failure = new VarveError("damaged", `block 7 ${"ä".repeat(5000)}`);
  device.read = () => {
    throw failure;
  };
  device.flush = () => Promise.reject(failure);
  device.commit = () => {
    throw failure;
  };
  for (const fields of [{ type: READ, length: 9 }, { type: FLUSH }, { type: WRITE, payload: noise(3) }]) {
    const found = errorIn((await ask(fields))[0]);
    assert.equal(found?.error, EIO);
    assert.match(found?.message ?? "", /^block 7 ä+$/);
    assert.ok((found?.message.length ?? 0) <= 200);
  }
  await leave();
});

/** Data at the even 32 KiB, holes between them. */
function striped(readOnly: boolean): { device: MemoryDevice; content: Uint8Array } {
  const content = noise(512 * KIB);
  for (let at = 32 * KIB; at < content.length; at += 64 * KIB) content.fill(0, at, at + 32 * KIB);
  const device = new MemoryDevice(content.length, { readOnly, content });
  // A memory device made from content has no holes by itself.
  device.extents = (offset, length, max = Infinity) => {
    const extents: Extent[] = [];
    for (let at = offset; at < offset + length && extents.length < max;) {
      const until = Math.min((Math.floor(at / (32 * KIB)) + 1) * 32 * KIB, offset + length);
      const kind = Math.floor(at / (32 * KIB)) % 2 === 0 ? "data" : "hole";
      extents.push({ offset: at, length: until - at, kind });
      at = until;
    }
    return extents;
  };
  return { device, content };
}

Deno.test("structured: a long READ of the past tells holes as holes, unless it may not be fragmented", async () => {
  const { device, content } = striped(true);
  const { ask, leave } = await enterDevice(device);
  for (
    const [offset, length] of [[0, 512 * KIB], [1, 64 * KIB], [33 * KIB + 5, 100 * KIB], [
      0,
      64 * KIB,
    ]] as const
  ) {
    const chunks = await ask({ type: READ, offset, length });
    assert.ok(chunks.some(({ type }) => type === OFFSET_HOLE));
    assert.deepEqual(chunks.map(({ done }) => done), chunks.map((_, at) => at === chunks.length - 1));
    assert.deepEqual(assemble(chunks, offset, length), content.subarray(offset, offset + length));
  }
  for (const fields of [{ length: 512 * KIB, flags: DF }, { length: 64 * KIB - 1 }]) {
    const chunks = await ask({ type: READ, ...fields });
    assert.deepEqual(chunks.map(({ type }) => type), [OFFSET_DATA]);
    assert.deepEqual(assemble(chunks, 0, fields.length), content.subarray(0, fields.length));
  }
  await leave();
});

Deno.test("structured: a long READ of what can be written does not look for holes", async () => {
  const { device, content } = striped(false);
  const { ask, leave } = await enterDevice(device);
  const chunks = await ask({ type: READ, length: 512 * KIB });
  assert.deepEqual(chunks.map(({ type }) => type), [OFFSET_DATA]);
  assert.deepEqual(assemble(chunks, 0, content.length), content);
  await leave();
});

Deno.test("structured: a READ of more extents than a reply may have is answered in full", async () => {
  const content = noise(600 * 4096);
  const device = new MemoryDevice(content.length, { readOnly: true, content });
  const read = device.read.bind(device);
  device.extents = (offset, length) =>
    Array.from({ length: length / 4096 }, (_, at) => ({
      offset: offset + at * 4096,
      length: 4096,
      kind: at % 2 === 0 ? "data" : "hole",
    }));
  device.read = (offset, target) => read(offset, target);
  for (let at = 4096; at < 64 * 4096; at += 8192) content.fill(0, at, at + 4096);
  const { ask, leave } = await enterDevice(device);
  const chunks = await ask({ type: READ, length: content.length });
  assert.ok(chunks.length > 10 && chunks.length < 100);
  const found = assemble(chunks, 0, content.length);
  assert.deepEqual(found.subarray(0, 8192), content.subarray(0, 8192));
  assert.deepEqual(found.subarray(300 * 4096), content.subarray(300 * 4096));
  await leave();
});

Deno.test("structured: a READ that fails in its middle says where, after what could be read", async () => {
  const { device, content } = striped(true);
  const read = device.read.bind(device);
  device.read = (offset, target) => {
    if (offset >= 128 * KIB) throw new VarveError("damaged", "block 32 is bad");
    read(offset, target);
  };
  const { ask, leave } = await enterDevice(device);
  const chunks = await ask({ type: READ, offset: 5, length: 500 * KIB });
  const last = chunks.pop();
  assert.equal(last?.type, ERROR_OFFSET);
  assert.deepEqual(errorIn(last), { error: EIO, message: "block 32 is bad", offset: 128 * KIB });
  assert.ok(chunks.every(({ done }) => !done));
  assert.deepEqual(assemble(chunks, 5, 128 * KIB - 5), content.subarray(5, 128 * KIB));
  const [whole] = await ask({ type: READ, offset: 128 * KIB, length: 128 * KIB });
  assert.deepEqual(errorIn(whole), { error: EIO, message: "block 32 is bad" });
  await leave();
});

Deno.test("structured: a batch of mixed commands is answered chunk by chunk, each with its cookie", async () => {
  const { client, leave } = await enterDevice(new MemoryDevice(100_000));
  await client.send(
    request({ type: WRITE, cookie: 1n, payload: noise(100) }),
    request({ type: READ, cookie: 2n ** 64n - 1n, offset: 50, length: 50 }),
    request({ type: TRIM, cookie: 3n, flags: 1, length: 10 }),
    request({ type: WRITE, cookie: 4n, flags: 0x100, payload: noise(5000) }),
    request({ type: READ, cookie: 5n, offset: 100_000, length: 1 }),
    request({ type: FLUSH, cookie: 6n }),
  );
  const found = new Map<bigint, number>();
  for (let count = 0; count < 6; count++) {
    const chunk = await client.chunk();
    assert.ok(chunk.done);
    found.set(chunk.cookie, chunk.type);
    if (chunk.type === OFFSET_DATA) assert.deepEqual(chunk.content.subarray(8), noise(100).subarray(50));
  }
  const expected: [bigint, number][] = [
    [1n, NONE],
    [2n ** 64n - 1n, OFFSET_DATA],
    [3n, NONE],
    [4n, ERROR],
    [5n, ERROR],
    [6n, NONE],
  ];
  assert.deepEqual(new Map([...found].sort()), new Map(expected.sort()));
  await leave();
});

Deno.test("structured: the bytes of a chunk are the protocol's", async () => {
  const { client, done } = await enterDevice(new MemoryDevice(4096));
  await client.send(request({ type: READ, cookie: 9n, offset: 3, length: 2 }), request({ type: 2 }));
  const head = concat(u32(0x668e33ef), u32(0x0001_0001), u64(9n), u32(10));
  assert.deepEqual(await client.receiveAll(), concat(head, u64(3n), new Uint8Array(2)));
  await done;
});

import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import {
  concat,
  enterDevice,
  errorIn,
  extendedRequest,
  noise,
  request,
  runsIn,
  u16,
  u32,
  u64,
} from "./_testing.ts";

const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const [FUA, DF, REQ_ONE, PAYLOAD_LEN] = [1, 4, 8, 32] as const;
const [NONE, OFFSET_DATA, BLOCK_STATUS_EXT] = [0, 1, 6] as const;
const [EINVAL, ENOSPC] = [22, 28] as const;
const TIB = 2 ** 40;
const ALLOCATION = "base:allocation";
const BITMAP = "qemu:dirty-bitmap:b";
const form = "extended";

const maps = {
  list: () => [BITMAP],
  open: () => Promise.resolve({ runs: (_: number, length: number) => [{ length, flags: 1 }] }),
};

Deno.test("extended: every reply is an extended chunk that repeats cookie and offset", async () => {
  const device = new MemoryDevice(100_000);
  const { ask, leave, flags } = await enterDevice(device, { form });
  assert.equal(flags, 0xded);
  const common = { done: true, cookie: 2n ** 64n - 2n };
  const cookie = common.cookie;
  assert.deepEqual(
    await ask({ type: WRITE, cookie, offset: 77, payload: noise(500), flags: PAYLOAD_LEN | FUA }),
    [
      { ...common, type: NONE, offset: 77n, content: new Uint8Array() },
    ],
  );
  assert.deepEqual(await ask({ type: READ, cookie, offset: 80, length: 9 }), [
    { ...common, type: OFFSET_DATA, offset: 80n, content: concat(u64(80n), noise(500).subarray(3, 12)) },
  ]);
  assert.equal((await ask({ type: READ, length: 100_000, flags: DF })).length, 1);
  for (const type of [FLUSH, TRIM, CACHE, WRITE_ZEROES, READ]) {
    assert.equal((await ask({ type }))[0]?.type, NONE);
  }
  const offset = 2n ** 64n - 3n;
  const [far] = await ask({ type: READ, offset, length: 1 });
  assert.deepEqual([far?.offset, errorIn(far)?.error], [offset, EINVAL]);
  await leave();
});

Deno.test("extended: the bytes of a chunk are the protocol's", async () => {
  const { client, done } = await enterDevice(new MemoryDevice(4096), { form });
  await client.send(
    extendedRequest({ type: READ, cookie: 9n, offset: 3, length: 2 }),
    extendedRequest({ type: DISC }),
  );
  const head = concat(u32(0x6e8a278c), u16(1), u16(1), u64(9n), u64(3n), u64(10n));
  assert.deepEqual(await client.receiveAll(), concat(head, u64(3n), new Uint8Array(2)));
  await done;
});

Deno.test("extended: lengths beyond 4 GiB trim, zero, and are refused beyond the end", async () => {
  const device = new MemoryDevice(4 * TIB);
  for (const at of [0, 5, 2 * TIB, 4 * TIB - 4096]) device.write(at, noise(4096));
  const { ask, leave } = await enterDevice(device, { form, queries: [ALLOCATION] });
  assert.equal((await ask({ type: TRIM, offset: 4096, length: 2 * TIB }))[0]?.type, NONE);
  assert.equal((await ask({ type: WRITE_ZEROES, offset: 3 * TIB, length: TIB }))[0]?.type, NONE);
  const [chunk] = await ask({ type: BLOCK_STATUS, length: 4 * TIB });
  assert.equal(chunk?.type, BLOCK_STATUS_EXT);
  assert.deepEqual(runsIn(chunk).runs, [[4096, 0], [4 * TIB - 4096, 3]]);
  assert.deepEqual(runsIn((await ask({ type: BLOCK_STATUS, length: 4 * TIB, flags: REQ_ONE }))[0]).runs, [[
    4096,
    0,
  ]]);
  const beyond: [number, bigint, number][] = [
    [TRIM, 4n * BigInt(TIB) + 1n, EINVAL],
    [WRITE_ZEROES, 4n * BigInt(TIB) + 1n, ENOSPC],
    [BLOCK_STATUS, 2n ** 64n - 1n, EINVAL],
    [CACHE, 2n ** 63n, EINVAL],
    [READ, 2n ** 32n, EINVAL],
  ];
  for (const [type, length, error] of beyond) {
    assert.equal(errorIn((await ask({ type, length }))[0])?.error, error);
  }
  await leave();
});

Deno.test("extended: a CACHE of more than 4 GiB reads all of it", async () => {
  const device = new MemoryDevice(2 ** 33);
  let bytes = 0;
  device.read = (_, target) => void (bytes += target.length);
  const { ask, leave } = await enterDevice(device, { form });
  assert.equal((await ask({ type: CACHE, offset: 1, length: 2 ** 33 - 1 }))[0]?.type, NONE);
  assert.equal(bytes, 2 ** 33 - 1);
  await leave();
});

Deno.test("extended: a CACHE ends with the conversation, however much of it is left", async () => {
  for (const leaves of [true, false]) {
    const device = new MemoryDevice(2 ** 52);
    let reads = 0;
    device.read = () => void reads++;
    const { client, done } = await enterDevice(device, { form });
    const cache = extendedRequest({ type: CACHE, length: 2 ** 52 });
    await client.send(cache, cache);
    while (reads === 0) await new Promise((resolve) => setTimeout(resolve));
    if (leaves) await client.send(extendedRequest({ type: DISC }));
    else client.close();
    await client.receiveAll();
    await done;
  }
});

Deno.test("extended: large payloads that are received apart are written, or refused, as others are", async () => {
  const payload = noise(400_000);
  const device = new MemoryDevice(payload.length + 5);
  const { ask, client, leave } = await enterDevice(device, { form, apart: true });
  const write = (offset: number, cookie: bigint) => extendedRequest({ type: WRITE, offset, cookie, payload });
  await client.send(write(0, 1n), write(5, 2n), write(6, 3n), extendedRequest({ type: FLUSH, cookie: 4n }));
  const errors = new Map<bigint, number | undefined>();
  for (let count = 0; count < 4; count++) {
    const chunk = await client.chunk();
    errors.set(chunk.cookie, errorIn(chunk)?.error);
  }
  assert.deepEqual(errors, new Map([[1n, undefined], [2n, undefined], [3n, ENOSPC], [4n, undefined]]));
  const [chunk] = await ask({ type: READ, length: payload.length + 5 });
  assert.deepEqual(chunk?.content.subarray(8), concat(payload.subarray(0, 5), payload));
  await leave();
});

Deno.test("extended: a payload that a command does not have is received, dropped and refused", async () => {
  const device = new MemoryDevice(100_000);
  const { ask, leave } = await enterDevice(device, { form, queries: [ALLOCATION] });
  for (const type of [READ, FLUSH, TRIM, CACHE, WRITE_ZEROES, 99]) {
    const found = errorIn((await ask({ type, payload: noise(70_000) }))[0]);
    assert.equal(found?.error, EINVAL, `command ${type}`);
  }
  assert.equal((await ask({ type: FLUSH }))[0]?.type, NONE);
  assert.equal(errorIn((await ask({ type: WRITE, offset: 99_999, payload: noise(99) }))[0])?.error, ENOSPC);
  assert.equal((await ask({ type: WRITE, flags: PAYLOAD_LEN }))[0]?.type, NONE, "an empty payload");
  await leave();
});

Deno.test("extended: a conversation that has lost its frames is ended", async () => {
  const torn = [
    extendedRequest({ type: WRITE, flags: PAYLOAD_LEN, length: 32 * 1024 * 1024 + 1 }),
    extendedRequest({ type: WRITE, flags: 0, length: 5 }),
    concat(request({ type: READ }), new Uint8Array(4)),
    extendedRequest({ type: FLUSH, flags: PAYLOAD_LEN, length: 2n ** 64n - 1n }),
  ];
  for (const bytes of torn) {
    const { client, done } = await enterDevice(new MemoryDevice(4096), { form });
    await client.send(bytes);
    assert.equal((await client.receiveAll()).length, 0);
    await done;
  }
  const { client, done } = await enterDevice(new MemoryDevice(4096));
  await client.send(extendedRequest({ type: READ }));
  assert.equal(
    (await client.receiveAll()).length,
    0,
    "an extended request to a server that was not asked for them",
  );
  await done;
});

Deno.test("extended: BLOCK_STATUS answers for the contexts that its payload names", async () => {
  const device = new MemoryDevice(8 * TIB);
  const { ask, contexts, leave, flags } = await enterDevice(device, {
    form,
    queries: [ALLOCATION, BITMAP],
    maps,
  });
  assert.equal(flags, 0x1ded);
  const [allocation = 0, bitmap = 0] = [contexts.get(ALLOCATION), contexts.get(BITMAP)];
  const status = async (length: bigint, ids: number[], more: Uint8Array = new Uint8Array()) =>
    await ask({ type: BLOCK_STATUS, offset: 5, payload: concat(u64(length), ...ids.map(u32), more) });
  for (const ids of [[allocation], [bitmap], [allocation, bitmap], [bitmap, allocation]]) {
    const found = (await status(2n ** 40n, ids)).map(runsIn);
    assert.deepEqual(found.map(({ context }) => context).sort(), [...ids].sort());
    for (const { context, runs } of found) assert.deepEqual(runs, [[TIB, context === bitmap ? 1 : 3]]);
  }
  const whole = await ask({ type: BLOCK_STATUS, length: 4096 });
  assert.deepEqual(whole.map(({ done }) => done), [false, true]);
  const refused = [
    await status(4096n, []),
    await status(4096n, [99]),
    await status(4096n, [allocation, allocation]),
    await status(4096n, [allocation, bitmap, allocation]),
    await status(4096n, [allocation], Uint8Array.of(0)),
    await status(0n, [allocation]),
    await status(8n * BigInt(TIB), [allocation]),
    await status(2n ** 64n - 1n, [allocation]),
    await ask({ type: BLOCK_STATUS, payload: noise(60_000) }),
    await ask({ type: BLOCK_STATUS, payload: noise(7) }),
    await ask({ type: BLOCK_STATUS, length: 0 }),
  ];
  for (const chunks of refused) assert.deepEqual(chunks.map((chunk) => errorIn(chunk)?.error), [EINVAL]);
  await leave();
});

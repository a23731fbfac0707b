import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { SegmentReader } from "../journal/mod.ts";
import { assertBytes, TestRandom, TestVolume } from "./_testing.ts";
import { rebuild } from "./_rebuild_testing.ts";
import type { Volume } from "./volume.ts";

const SMALL = 5 * BLOCK_BYTES + 700;
const LARGE = 300 * BLOCK_BYTES + 300;

/** Resizes as the appliance does. */
async function resize(test: TestVolume, sizeBytes: number): Promise<void> {
  const { told, finish } = await test.volume.resize(sizeBytes);
  test.row = { ...test.row, sizeBytes };
  told();
  await finish();
}

function fill(test: TestVolume, random: TestRandom): Uint8Array {
  const bytes = random.bytes(test.volume.sizeBytes);
  test.volume.live.write(0, bytes);
  return bytes;
}

function liveContent({ live }: Volume): Uint8Array {
  const bytes = new Uint8Array(live.sizeBytes);
  live.read(0, bytes);
  return bytes;
}

function storedBytes(test: TestVolume): number {
  return test.disk.stat(test.row.primaryPath)?.sizeBytes ?? 0;
}

Deno.test("a volume grows and shrinks, and each moment keeps its size and its bytes", async () => {
  for (let seed = 1; seed <= 8; seed++) {
    await using test = new TestVolume(SMALL);
    test.batchRecords = 3;
    const random = new TestRandom(seed);
    await test.create();
    const past = new Map<number, Uint8Array>();
    let now = new Uint8Array(SMALL);
    for (let step = 0; step < 12; step++) {
      const { live } = test.volume;
      const length = 1 + random.below(Math.min(now.length, 9000));
      const offset = random.below(now.length - length + 1);
      const data = random.bytes(length);
      live.write(offset, data);
      now.set(data, offset);
      past.set(live.lastSeq, now.slice());
      // The last block is cut by the end in most cases, and neighbours in size share it.
      const sizeBytes = 1 + random.below(random.below(2) === 0 ? 3 * BLOCK_BYTES : 12 * BLOCK_BYTES);
      await resize(test, sizeBytes);
      const next = new Uint8Array(sizeBytes);
      next.set(now.subarray(0, sizeBytes));
      now = next;
      past.set(live.lastSeq, now.slice());
      assert.equal(live.sizeBytes, sizeBytes);
      assert.equal(storedBytes(test), sizeBytes, "a file of Varve's own is as long as the volume");
      assertBytes(liveContent(test.volume), now, `seed ${seed}, step ${step}, live`);
      assertBytes(test.primaryContent(), now, `seed ${seed}, step ${step}, primary`);
      if (random.below(4) === 0) {
        await test.close();
        await test.open();
        assertBytes(liveContent(test.volume), now, `seed ${seed}, step ${step}, live after a restart`);
      }
    }
    const check = async (when: string) => {
      for (const [seq, bytes] of past) {
        assertBytes(await test.contentAt(seq), bytes, `seed ${seed}, ${when} ${seq}`);
      }
    };
    await check("sequence");
    await test.close();
    const { row } = await rebuild(test);
    assert.equal(row.sizeBytes, now.length);
    await test.open();
    await check("rebuilt, sequence");
    assertBytes(liveContent(test.volume), now, `seed ${seed}, rebuilt, live`);
  }
});

Deno.test("the moment before a resize and the first one of the new size are flushes", async () => {
  await using test = new TestVolume(SMALL);
  const { live } = await test.create();
  fill(test, new TestRandom(3));
  await resize(test, LARGE);
  await test.volume.settle();
  const kinds = [...test.volume.moments.between(0, Number.MAX_SAFE_INTEGER)].slice(-2).map(({ kind }) =>
    kind
  );
  assert.deepEqual(kinds, [2, 2]);
  assert.equal((await test.volume.view(live.lastSeq - 1)).sizeBytes, SMALL);
  assert.equal((await test.volume.view(live.lastSeq)).sizeBytes, LARGE);
});

Deno.test("growing over a disk that was larger than the volume keeps what lies on it, live and in history", async () => {
  await using test = new TestVolume(SMALL);
  const random = new TestRandom(5);
  const disk = random.bytes(LARGE + 999);
  disk.fill(0, 100 * BLOCK_BYTES, 120 * BLOCK_BYTES + 17);
  test.row = { ...test.row, primaryManaged: false };
  await test.adopt(disk);
  await test.volume.completeBaseline();
  const { live } = test.volume;
  live.write(SMALL - 50, new Uint8Array(50).fill(9));
  await live.flush();
  const growing = resize(test, LARGE);
  // The block that the old end cuts is written to while the new part is captured.
  live.write(SMALL - 30, new Uint8Array(30).fill(8));
  await growing;
  const expected = disk.slice(0, LARGE);
  expected.fill(9, SMALL - 50, SMALL - 30).fill(8, SMALL - 30, SMALL);
  assertBytes(liveContent(test.volume), expected, "live");
  assertBytes(await test.contentAt(live.lastSeq), expected, "history");
  live.write(LARGE - 100, new Uint8Array(100).fill(6));
  expected.fill(6, LARGE - 100);
  await live.flush();
  assertBytes(test.primaryContent(), expected, "primary");
  await resize(test, SMALL);
  assert.equal(storedBytes(test), disk.length, "a disk that is not Varve's own is never cut");
  await test.close();
  const file = test.disk.open(test.row.primaryPath);
  const beyond = new Uint8Array(999);
  file.read(LARGE, beyond);
  assertBytes(beyond, disk.slice(LARGE), "what lies beyond the volume is never touched");
  file.close();
});

Deno.test("history does not show again what lay beyond the end of a smaller volume", async () => {
  await using test = new TestVolume(LARGE);
  test.row = { ...test.row, primaryManaged: false };
  await test.create();
  fill(test, new TestRandom(8));
  await test.volume.live.flush();
  await resize(test, SMALL);
  // Somebody writes beyond the end of a disk that has become free.
  const file = test.disk.open(test.row.primaryPath, { mode: "write" });
  file.write(LARGE - 5000, new Uint8Array(5000).fill(3));
  await resize(test, LARGE);
  const now = liveContent(test.volume);
  assertBytes(now.slice(LARGE - 5000), new Uint8Array(5000).fill(3), "live");
  assertBytes(now.slice(SMALL, LARGE - 5000), new Uint8Array(LARGE - 5000 - SMALL), "live, trimmed part");
  assertBytes(await test.contentAt(test.volume.live.lastSeq), now, "history");
});

Deno.test("growing shows nothing that a file of Varve's own had left beyond the end", async () => {
  await using test = new TestVolume(SMALL);
  await test.create();
  const before = fill(test, new TestRandom(4));
  const file = test.disk.open(test.row.primaryPath, { mode: "write" });
  file.write(SMALL, new Uint8Array(9000).fill(5));
  await resize(test, LARGE);
  const expected = new Uint8Array(LARGE);
  expected.set(before);
  assertBytes(liveContent(test.volume), expected, "live");
});

Deno.test("a volume is not resized while an adopted disk is copied, in a gap, twice at a time, or when it is being closed", async () => {
  await using adopted = new TestVolume(SMALL);
  await adopted.adopt(new TestRandom(1).bytes(SMALL));
  await assert.rejects(adopted.volume.resize(LARGE), { code: "conflict" });

  await using test = new TestVolume(SMALL);
  await test.create();
  const first = test.volume.resize(LARGE);
  await assert.rejects(test.volume.resize(LARGE + 1), { code: "conflict" });
  const { told, finish } = await first;
  told();
  await finish();
  test.row = { ...test.row, sizeBytes: LARGE };
  test.volume.gaps.note({ fromSeq: 1, fromUs: 1, toSeq: undefined, toUs: undefined });
  await assert.rejects(test.volume.resize(SMALL), { code: "conflict" });
  test.volume.gaps.note({ fromSeq: 1, fromUs: 1, toSeq: 2, toUs: 2 });
  await assert.rejects(test.volume.resize(SMALL, AbortSignal.abort()), { code: "cancelled" });
  assert.equal(test.volume.sizeBytes, LARGE);
  await resize(test, SMALL);
  assert.equal(test.volume.sizeBytes, SMALL, "a refused one is not in the way of the next");
});

Deno.test("a client has a number for good, and the journal says who it was ahead of its first command", async () => {
  await using test = new TestVolume(SMALL);
  await test.create();
  const who = { peer: "unix", credentials: { pid: 42, uid: 1000, gid: 100 } };
  const reader = test.volume.live.admit({ peer: "192.0.2.1:5", tls: true });
  const writer = test.volume.live.admit(who);
  assert.deepEqual([reader, writer], [1, 2]);
  const data = new Uint8Array(10);
  test.volume.live.write(0, data, { client: writer });
  test.volume.live.write(0, data, { client: writer });
  assert.deepEqual(
    test.volume.newestClients(9).map(({ identity, isConnected }) => [identity.client, isConnected]),
    [
      [2, true],
      [1, true],
    ],
  );
  test.volume.live.connections.dismiss(reader);
  await test.volume.live.sync();
  const told = await texts(test);
  assert.deepEqual(told.map(({ kind, client, text }) => [kind, client, text?.peer]), [
    ["meta", 0, "unix"],
    ["write", 2, undefined],
    ["write", 2, undefined],
  ]);
  assert.deepEqual(told[0]?.text?.credentials, who.credentials);

  await test.cutPower();
  await test.open();
  const third = test.volume.live.admit({ peer: "unix" });
  assert.equal(third, 3, "goes on behind the last that wrote");
  test.volume.live.trim(0, 10, { client: third });
  await test.close();
  await rebuild(test);
  await test.open();
  assert.equal(test.volume.live.admit({ peer: "unix" }), 4);
  const clients = test.volume.newestClients(9);
  assert.deepEqual(clients.map(({ identity, isConnected }) => [identity.client, isConnected]), [
    [4, true],
    [3, false],
    [2, false],
  ]);
  assert.deepEqual(clients[2]?.identity.credentials, who.credentials);
});

interface Told {
  kind: string;
  client: number;
  text: { type: string; peer?: string; credentials?: unknown } | undefined;
}

/** Records of the journal, without the texts that describe the volume. */
async function texts(test: TestVolume): Promise<Told[]> {
  const found: Told[] = [];
  await test.volume.live.sync();
  const segments = new SegmentReader(test.disk, `${test.directory}/segments`);
  segments.scan(1, 0, ({ header, text }) => {
    const said = text === undefined ? undefined : JSON.parse(text) as Told["text"];
    if (said?.type !== "volume") found.push({ kind: header.kind, client: header.client, text: said });
    return true;
  });
  segments.close();
  return found;
}

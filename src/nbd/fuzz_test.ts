import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import { infoData, noise, option, RawClient, request, TestExports, u32, utf8 } from "./_testing.ts";
import { NbdServer } from "./server.ts";

const SEED = Number(Deno.env.get("VARVE_FUZZ_SEED") ?? 20261122);
const CONVERSATIONS = Number(Deno.env.get("VARVE_FUZZ_CONVERSATIONS") ?? 600);

/** Numbers from 0 to `below` - 1, the same for the same seed. */
function dice(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function randomOption(roll: (below: number) => number): Uint8Array {
  const kind = roll(14);
  if (kind === 12) return option(roll(0xffff_ffff), noise(roll(5000), roll(1e9)));
  if (kind === 13) return noise(roll(200), roll(1e9));
  const data =
    [new Uint8Array(), infoData("disk", [3, 1]), utf8("disk"), noise(roll(100), roll(1e9))][roll(4)];
  return option(kind, data, roll(20) === 0 ? roll(100_000) : undefined);
}

function randomRequest(roll: (below: number) => number): Uint8Array {
  const type = roll(10);
  const offset = roll(8) === 0 ? BigInt.asUintN(64, BigInt(roll(0xffff_ffff)) << 31n) : BigInt(roll(70_000));
  const payload = type === 1 ? noise(roll(9000), roll(1e9)) : new Uint8Array();
  return request({
    type,
    offset,
    payload,
    cookie: BigInt(roll(1000)),
    flags: roll(4) === 0 ? roll(0x10000) : roll(4),
    ...(type === 1 && roll(15) > 0 ? {} : { length: roll(9000) }),
    ...(roll(60) === 0 ? { magic: roll(0xffff_ffff) } : {}),
  });
}

function mutate(bytes: Uint8Array, roll: (below: number) => number): Uint8Array {
  const changed = bytes.slice(0, roll(12) === 0 ? roll(bytes.length + 1) : undefined);
  for (let count = roll(5) === 0 ? 1 + roll(3) : 0; count > 0 && changed.length > 0; count--) {
    changed[roll(changed.length)] = roll(256);
  }
  return changed;
}

Deno.test(`fuzz: ${CONVERSATIONS} conversations of mutated messages (seed ${SEED}): no crash, no hang, nothing left open`, async () => {
  const roll = dice(SEED);
  const problems: unknown[] = [];
  const exports = new TestExports({ disk: new MemoryDevice(65_536) });
  const server = new NbdServer({
    exports,
    handshakeTimeoutMs: 60_000,
    onProblem: (error) => problems.push(error),
  });
  let messages = 0;
  let answeredBytes = 0;
  for (let conversation = 0; conversation < CONVERSATIONS; conversation++) {
    const { client, done } = RawClient.inMemory(server);
    const parts = [roll(20) === 0 ? noise(4, roll(1e9)) : u32(roll(4))];
    if (roll(3) === 0) {
      for (let count = roll(6); count > 0; count--) parts.push(mutate(randomOption(roll), roll));
    }
    parts.push(roll(2) === 0 ? option(1, utf8("disk")) : option(7, infoData("disk")));
    for (let count = roll(20); count > 0; count--) parts.push(mutate(randomRequest(roll), roll));
    messages += parts.length;
    for (const part of parts) {
      await client.send(part);
      if (roll(4) === 0) await Promise.resolve();
    }
    if (roll(3) === 0) client.close();
    else client.endSending();
    answeredBytes += (await client.receiveAll()).length;
    await done;
  }
  assert.deepEqual(problems, []);
  assert.equal(server.connections(), 0);
  assert.ok(messages > CONVERSATIONS * 5);
  assert.ok(exports.opened > CONVERSATIONS / 4 && answeredBytes > messages);
  assert.equal(exports.closed, exports.opened);
});

import assert from "node:assert/strict";
import { concat, infoData, option, request, u16, u32, u64 } from "../../src/nbd/_testing.ts";
import { fuzz } from "./nbd.ts";
import { compare } from "./twin.ts";

const SEED = Number(Deno.env.get("VARVE_FUZZ_SEED") ?? 20261122);

Deno.test(`fuzz: mutated conversations (seed ${SEED}): no crash, no hang, well-formed replies, nothing left open`, async () => {
  const outcome = await fuzz({ seed: SEED, messages: 20_000 });
  assert.ok(outcome.messages >= 20_000);
  assert.ok(outcome.replies > outcome.messages / 4, "most conversations reach the server's heart");
});

const greeting = concat("NBDMAGIC", "IHAVEOPT", u16(3));
const reply = (option: number, type: number, data: Uint8Array = new Uint8Array()) =>
  concat(u64(0x0003e889045565a9n), u32(option), u32(type), u32(data.length), data);
const ended = concat(greeting, reply(7, 3, concat(u16(0), u64(100n), u16(1))), reply(7, 1));
const asked = concat(u32(3), option(7, infoData("disk")));
const simple = (error: number, cookie: bigint) => concat(u32(0x67446698), u32(error), u64(cookie));

Deno.test("fuzz: the twin finds what a server must not say or leave unsaid", () => {
  const sent = concat(asked, request({ length: 3, cookie: 1n }), request({ type: 3, cookie: 2n }));
  const right = concat(ended, simple(0, 2n), simple(0, 1n), new Uint8Array(3));
  assert.deepEqual(compare(sent, right, false), { replies: 4, requests: 2 });
  const wrong: [string, Uint8Array][] = [
    ["nothing", new Uint8Array()],
    ["half an option reply", ended.subarray(0, 30)],
    ["a reply to another option", concat(greeting, reply(6, 1))],
    ["an acknowledgement with data", concat(greeting, reply(7, 1, u32(0)))],
    ["a request unanswered", concat(ended, simple(0, 2n))],
    ["a request answered twice", concat(right, simple(0, 2n))],
    ["too little data", concat(ended, simple(0, 2n), simple(0, 1n), new Uint8Array(2))],
    ["too much data", concat(right, new Uint8Array(1))],
    ["a reply to no request", concat(right, simple(0, 9n))],
    ["an error of storage", concat(ended, simple(5, 2n), simple(22, 1n))],
    ["a chunk that was not negotiated", concat(ended, u32(0x668e33ef), u32(0x0001_0000), u64(2n), u32(0))],
  ];
  for (const [what, received] of wrong) assert.throws(() => compare(sent, received, false), Error, what);
  assert.deepEqual(
    compare(sent, concat(ended, simple(0, 2n)), true).replies,
    3,
    "a cut connection owes nothing",
  );
});

Deno.test("fuzz: the twin finds chunks that do not fit their request", () => {
  const options = concat(u32(3), option(8), option(7, infoData("disk")));
  const sent = concat(options, request({ length: 30, offset: 5, cookie: 1n }));
  const begin = concat(greeting, reply(8, 1), ended.subarray(18));
  const chunk = (flags: number, type: number, content: Uint8Array) =>
    concat(begin, u32(0x668e33ef), u16(flags), u16(type), u64(1n), u32(content.length), content);
  const data = (offset: bigint, length: number) => concat(u64(offset), new Uint8Array(length));
  assert.equal(compare(sent, chunk(1, 1, data(5n, 30)), false).replies, 4);
  assert.equal(compare(sent, chunk(1, 2, concat(u64(5n), u32(30))), false).replies, 4);
  const wrong = [
    chunk(0, 1, data(5n, 30)),
    chunk(1, 1, data(5n, 29)),
    chunk(1, 1, data(5n, 31)),
    chunk(1, 1, data(6n, 30)),
    chunk(2, 1, data(5n, 30)),
    chunk(1, 2, concat(u64(5n), u32(29))),
    chunk(1, 5, concat(u32(1), u32(30), u32(0))),
    chunk(1, 0x8001, concat(u32(22), u16(1))),
    chunk(1, 0x8001, concat(u32(22), u16(0), u16(0))),
    chunk(1, 0x8001, concat(u32(5), u16(0))),
    chunk(1, 99, new Uint8Array()),
  ];
  for (const received of wrong) assert.throws(() => compare(sent, received, false));
});

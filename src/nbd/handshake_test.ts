import assert from "node:assert/strict";
import { ERROR_CODES, VarveError } from "../base/errors.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import { concat, infoData, option, RawClient, request, TestExports, u16, u32, utf8 } from "./_testing.ts";
import type { ExportProvider } from "./exports.ts";
import { optionErrorOf, Rep } from "./protocol.ts";
import { NbdServer } from "./server.ts";

const SIZE = 1_000_003;
const FLAGS_WRITABLE = 0xd6d;
const FLAGS_READ_ONLY = 0x50f;

function serve(
  exports: ExportProvider = new TestExports({
    disk: new MemoryDevice(SIZE),
    past: new MemoryDevice(SIZE, { readOnly: true }),
    "disk@10m ago 10:13 ä": new MemoryDevice(4096),
  }),
) {
  const server = new NbdServer({ exports });
  return { server, ...RawClient.inMemory(server) };
}

Deno.test("handshake: the greeting offers fixed newstyle without zeroes", async () => {
  const { client, done } = serve();
  assert.deepEqual(await client.receive(18), concat("NBDMAGIC", "IHAVEOPT", u16(3)));
  client.close();
  await done;
});

Deno.test("handshake: EXPORT_NAME sends 124 zeroes unless the client declines them", async () => {
  for (const flags of [0, 1, 2, 3]) {
    const { client, done } = serve();
    await client.greet(flags);
    await client.send(option(1, utf8("disk")), request({ type: 2 }));
    const expected = concat(u32(0), u32(SIZE), u16(FLAGS_WRITABLE), new Uint8Array(flags & 2 ? 0 : 124));
    assert.deepEqual(await client.receiveAll(), expected, `client flags ${flags}`);
    await done;
  }
});

Deno.test("handshake: a size above 2^32 is told exactly", async () => {
  const sizeBytes = 2 ** 52 + 4097;
  const { client, done } = serve(new TestExports({ "": new MemoryDevice(sizeBytes) }));
  assert.deepEqual(await client.enter(""), { sizeBytes, flags: FLAGS_WRITABLE });
  client.close();
  await done;
});

Deno.test("handshake: EXPORT_NAME of an unknown, over-long or malformed name closes", async () => {
  for (
    const name of [utf8("nothing"), new Uint8Array(4097).fill(0x61), Uint8Array.of(0xff), utf8("di\0sk")]
  ) {
    const { client, done } = serve();
    await client.greet();
    await client.send(option(1, name));
    assert.equal((await client.receiveAll()).length, 0);
    await done;
  }
});

Deno.test("handshake: unknown client flags close", async () => {
  for (const flags of [4, 0x8000_0003]) {
    const { client, done } = serve();
    await client.greet(flags);
    assert.equal((await client.receiveAll()).length, 0);
    await done;
  }
});

Deno.test("handshake: a wrong option magic number closes", async () => {
  const { client, done } = serve();
  await client.greet();
  await client.send("IHAVEOPS", u32(3), u32(0));
  assert.equal((await client.receiveAll()).length, 0);
  await done;
});

Deno.test("handshake: LIST names every export with its description", async () => {
  const { client, done } = serve();
  await client.greet();
  await client.send(option(3));
  for (const name of ["disk", "past", "disk@10m ago 10:13 ä"]) {
    const data = concat(u32(utf8(name).length), name, `about ${name}`);
    assert.deepEqual(await client.optionReply(), { option: 3, type: Rep.SERVER, data });
  }
  assert.deepEqual(await client.optionReply(), { option: 3, type: Rep.ACK, data: new Uint8Array() });
  await client.send(option(3, utf8("x")));
  assert.equal((await client.optionReply()).type, Rep.ERR_INVALID);
  client.close();
  await done;
});

Deno.test("handshake: INFO tells only what was asked for, GO goes on to transmission", async () => {
  const exports = new TestExports({ past: new MemoryDevice(SIZE, { readOnly: true }) });
  const { client, done } = serve(exports);
  await client.greet();
  const infoExport = concat(u16(0), u32(0), u32(SIZE), u16(FLAGS_READ_ONLY));
  const more = [
    concat(u16(1), "past"),
    concat(u16(2), "about past"),
    concat(u16(3), u32(1), u32(4096), u32(2 ** 25)),
  ];

  await client.send(option(6, infoData("past")));
  assert.deepEqual(await client.optionReply(), { option: 6, type: Rep.INFO, data: infoExport });
  assert.equal((await client.optionReply()).type, Rep.ACK);
  assert.deepEqual([exports.opened, exports.closed], [1, 0]);

  await client.send(option(7, infoData("past", [3, 2, 1, 3, 77])));
  for (const data of [infoExport, ...more]) {
    assert.deepEqual(await client.optionReply(), { option: 7, type: Rep.INFO, data });
  }
  assert.equal((await client.optionReply()).type, Rep.ACK);
  assert.deepEqual([exports.opened, exports.closed], [1, 0], "GO goes on with what INFO has told of");

  await client.send(request({ length: 3, cookie: 9n }));
  assert.deepEqual(await client.reply(), { error: 0, cookie: 9n });
  assert.deepEqual(await client.receive(3), new Uint8Array(3));
  client.close();
  await done;
  assert.equal(exports.closed, 1);
});

Deno.test("handshake: a name opened once stays open for GO, another name closes it", async () => {
  const device = new MemoryDevice(SIZE);
  const exports = new TestExports({ a: device, b: device });
  const { client, done } = serve(exports);
  await client.greet();
  const ask = async (kind: number, name: string) => {
    const type = await client.ask(kind, infoData(name));
    return [type, exports.opened, exports.closed];
  };
  assert.deepEqual(await ask(6, "a"), [Rep.ACK, 1, 0]);
  assert.deepEqual(await ask(6, "a"), [Rep.ACK, 1, 0]);
  assert.deepEqual(await ask(6, "b"), [Rep.ACK, 2, 1]);
  assert.deepEqual(await ask(6, "nothing"), [Rep.ERR_UNKNOWN, 2, 2]);
  assert.deepEqual(await ask(6, "a"), [Rep.ACK, 3, 2]);
  assert.deepEqual(await ask(7, "a"), [Rep.ACK, 3, 2]);
  client.close();
  await done;
  assert.equal(exports.closed, 3);
});

Deno.test("handshake: what an undecided client has opened is closed when it leaves", async () => {
  const exports = new TestExports({ a: new MemoryDevice(SIZE) });
  const { client, done } = serve(exports);
  await client.greet();
  assert.equal(await client.ask(6, infoData("a")), Rep.ACK);
  client.close();
  await done;
  assert.deepEqual([exports.opened, exports.closed], [1, 1]);
});

Deno.test("handshake: structured replies and extended headers are negotiated in the order that the protocol allows", async () => {
  const { client, done } = serve();
  await client.greet();
  const [STRUCTURED, EXTENDED] = [8, 11];
  assert.equal(await client.ask(STRUCTURED, utf8("x")), Rep.ERR_INVALID);
  assert.equal(await client.ask(EXTENDED, utf8("x")), Rep.ERR_INVALID);
  const flags = async () => {
    await client.send(option(6, infoData("past")));
    const [info] = await client.optionReplies();
    return new DataView(info?.data.buffer ?? new ArrayBuffer(12)).getUint16(10);
  };
  const DF = 1 << 7;
  assert.equal(await flags(), FLAGS_READ_ONLY, "a refused option changes nothing");
  assert.equal(await client.ask(STRUCTURED), Rep.ACK);
  assert.equal(await flags(), FLAGS_READ_ONLY | DF);
  assert.equal(await client.ask(STRUCTURED), Rep.ACK);
  assert.equal(await client.ask(EXTENDED), Rep.ACK);
  assert.equal(await client.ask(EXTENDED), Rep.ACK);
  assert.equal(await flags(), FLAGS_READ_ONLY | DF);
  assert.equal(await client.ask(STRUCTURED), Rep.ERR_EXT_HEADER_REQD);
  await client.send(option(1, utf8("past")));
  assert.equal((await client.receiveAll()).length, 0, "EXPORT_NAME does not go with extended headers");
  await done;
});

Deno.test("handshake: a client without fixed newstyle may choose an export and nothing else", async () => {
  for (const kind of [2, 3, 5, 6, 7, 8, 99]) {
    const { client, done } = serve();
    await client.greet(2);
    await client.send(option(kind, kind === 6 || kind === 7 ? infoData("disk") : new Uint8Array()));
    assert.equal((await client.receiveAll()).length, 0, `option ${kind}`);
    await done;
  }
});

Deno.test("handshake: options that are not supported are refused and survived", async () => {
  const { client, done } = serve();
  await client.greet();
  for (const kind of [4, 5, 0, 99, 0xffff_ffff]) {
    await client.send(option(kind, utf8("some data")));
    const reply = await client.optionReply();
    assert.deepEqual([reply.option, reply.type], [kind, Rep.ERR_UNSUP]);
  }
  await client.send(option(7, infoData("disk")));
  assert.equal((await client.optionReply()).type, Rep.INFO);
  client.close();
  await done;
});

Deno.test("handshake: INFO and GO refuse bad data with the fitting error", async () => {
  const cases: [Uint8Array, number][] = [
    [infoData("nothing"), Rep.ERR_UNKNOWN],
    [new Uint8Array(5), Rep.ERR_INVALID],
    [concat(u32(5), "disk", u16(0)), Rep.ERR_INVALID],
    [concat(u32(0xffff_ffff), "disk", u16(0)), Rep.ERR_INVALID],
    [concat(u32(4), "disk", u16(1)), Rep.ERR_INVALID],
    [concat(u32(4), "disk", u16(0), u16(0)), Rep.ERR_INVALID],
    [infoData("di\0sk"), Rep.ERR_INVALID],
    [concat(u32(1), Uint8Array.of(0xff), u16(0)), Rep.ERR_INVALID],
    [infoData("a".repeat(4097)), Rep.ERR_TOO_BIG],
    [infoData("a".repeat(4096)), Rep.ERR_UNKNOWN],
    [new Uint8Array(65537), Rep.ERR_TOO_BIG],
    [new Uint8Array(1024 * 1024), Rep.ERR_TOO_BIG],
  ];
  const { client, done } = serve();
  await client.greet();
  for (const kind of [6, 7]) {
    for (const [data, type] of cases) {
      await client.send(option(kind, data));
      const reply = await client.optionReply();
      assert.deepEqual([reply.option, reply.type], [kind, type]);
      assert.ok(reply.data.length > 0 && reply.data.length <= 4096);
    }
  }
  await client.send(option(6, infoData("disk@10m ago 10:13 ä")));
  assert.equal((await client.optionReply()).type, Rep.INFO);
  client.close();
  await done;
});

Deno.test("handshake: an option beyond every measure closes", async () => {
  const { client, done } = serve();
  await client.greet();
  await client.send(option(6, new Uint8Array(), 0xffff_ffff));
  assert.equal((await client.receiveAll()).length, 0);
  await done;
});

Deno.test("handshake: ABORT is acknowledged, then the server closes", async () => {
  const { client, done } = serve();
  await client.greet();
  await client.send(option(2));
  assert.deepEqual(
    await client.receiveAll(),
    concat(u32(0x0003e889), u32(0x045565a9), u32(2), u32(1), u32(0)),
  );
  await done;
});

Deno.test("handshake: a client that never decides is cut off", async () => {
  const { client, done } = serve();
  await client.greet();
  for (let count = 0; count < 256; count++) {
    await client.send(option(6, infoData("nothing")));
    assert.equal((await client.optionReply()).type, Rep.ERR_UNKNOWN);
  }
  assert.equal((await client.receiveAll()).length, 0);
  await done;
});

Deno.test("handshake: a client that says nothing is cut off in time", async () => {
  const server = new NbdServer({ exports: new TestExports({}), handshakeTimeoutMs: 1 });
  for (const words of [[], [u32(3)], [u32(3), "IHAVE"]]) {
    const { client, done } = RawClient.inMemory(server);
    await client.send(...words);
    assert.equal((await client.receiveAll()).length, 18);
    await done;
  }
});

Deno.test("handshake: each error code of the provider reaches the client with its message", async () => {
  const problems: string[] = [];
  for (const code of ERROR_CODES) {
    const failure = () => Promise.reject(new VarveError(code, `said ${code}`, { hint: "Do this" }));
    const server = new NbdServer({
      exports: { list: failure, open: failure },
      onProblem: (error) => problems.push(error.code),
    });
    const { client, done } = RawClient.inMemory(server);
    await client.greet();
    for (const [kind, data] of [[3, new Uint8Array()], [6, infoData("x")], [7, infoData("x")]] as const) {
      await client.send(option(kind, data));
      const reply = await client.optionReply();
      assert.equal(reply.type, optionErrorOf(code));
      assert.equal(new TextDecoder().decode(reply.data), `said ${code}. Do this`);
    }
    client.close();
    await done;
  }
  assert.equal(optionErrorOf("not-retained"), Rep.ERR_UNKNOWN);
  assert.equal(optionErrorOf("conflict"), Rep.ERR_POLICY);
  assert.ok(problems.includes("damaged"));
});

Deno.test("handshake: a message longer than a string may be is cut between characters", async () => {
  const { client, done } = serve({
    list: () => [],
    open: () => Promise.reject(new VarveError("invalid", "ä".repeat(3000))),
  });
  await client.greet();
  await client.send(option(7, infoData("x")));
  assert.equal(
    new TextDecoder("utf-8", { fatal: true }).decode((await client.optionReply()).data),
    "ä".repeat(2048),
  );
  client.close();
  await done;
});

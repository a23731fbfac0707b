import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import {
  errorIn,
  infoData,
  maskingTls,
  metaData,
  option,
  RawClient,
  request,
  TestExports,
  TLS_HELLO,
  u32,
  utf8,
} from "./_testing.ts";
import { Rep } from "./protocol.ts";
import { NbdServer, type NbdServerOptions } from "./server.ts";

const [EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO] = [1, 2, 3, 5, 6, 7] as const;
const [STRUCTURED, SET_META, EXTENDED] = [8, 10, 11] as const;

async function greeted(options: Partial<NbdServerOptions>) {
  const exports = new TestExports({ disk: new MemoryDevice(4096) });
  const server = new NbdServer({ exports, ...options });
  const { client, done } = RawClient.inMemory(server);
  await client.greet();
  return { client, done, server, exports };
}

async function encrypt(client: RawClient): Promise<RawClient> {
  assert.equal(await client.ask(STARTTLS), Rep.ACK);
  await client.send(TLS_HELLO);
  return client.masked();
}

Deno.test("STARTTLS: forgets everything that was negotiated before it", async () => {
  const { client, done, exports } = await greeted({ tls: maskingTls() });
  await client.ask(STRUCTURED);
  await client.ask(EXTENDED);
  await client.ask(SET_META, metaData("disk", ["base:allocation"]));
  assert.deepEqual([exports.opened, exports.closed], [1, 0]);
  const secret = await encrypt(client);
  assert.equal(await secret.ask(SET_META, metaData("disk", ["base:allocation"])), Rep.ERR_INVALID);
  assert.deepEqual([exports.opened, exports.closed], [1, 1]);
  assert.equal(await secret.ask(STRUCTURED), Rep.ACK, "extended headers are forgotten");
  assert.equal(await secret.ask(GO, infoData("disk")), Rep.ACK);
  await secret.send(request({ type: 7, length: 1 }));
  assert.equal(errorIn(await secret.chunk())?.error, 22, "no context is selected");
  secret.close();
  await done;
  assert.deepEqual([exports.opened, exports.closed], [2, 2]);
});

Deno.test("STARTTLS: simple replies are back when nothing is negotiated behind it", async () => {
  const { client, done } = await greeted({ tls: maskingTls() });
  await client.ask(STRUCTURED);
  const secret = await encrypt(client);
  assert.equal(await secret.ask(GO, infoData("disk")), Rep.ACK);
  await secret.send(request({ length: 5, cookie: 3n }));
  assert.deepEqual(await secret.reply(), { error: 0, cookie: 3n });
  secret.close();
  await done;
});

Deno.test("STARTTLS: the provider learns who the client is", async () => {
  const credentials = { pid: 7, uid: 8, gid: 9 };
  for (const certificate of [undefined, "CN=host-7"]) {
    const { client, done, exports } = await greeted({ tls: maskingTls(false, certificate) });
    await client.ask(INFO, infoData("disk"));
    const secret = await encrypt(client);
    await secret.ask(INFO, infoData("disk"));
    assert.deepEqual(exports.clients, [
      { peer: "memory", credentials, tls: false },
      { peer: "memory", credentials, tls: true, ...(certificate === undefined ? {} : { certificate }) },
    ]);
    secret.close();
    await done;
  }
});

Deno.test("STARTTLS: a second one is invalid, as is one with data, and none is offered where there is no encryption", async () => {
  const { client, done } = await greeted({ tls: maskingTls() });
  assert.equal(await client.ask(STARTTLS, utf8("x")), Rep.ERR_INVALID);
  const secret = await encrypt(client);
  assert.equal(await secret.ask(STARTTLS), Rep.ERR_INVALID);
  assert.equal(await secret.ask(LIST), Rep.ACK);
  secret.close();
  await done;
  const plain = await greeted({});
  assert.equal(await plain.client.ask(STARTTLS), Rep.ERR_UNSUP);
  plain.client.close();
  await plain.done;
});

Deno.test("STARTTLS: where it is required nothing else is answered before it, all of it after it", async () => {
  const { client, done, exports } = await greeted({ tls: maskingTls(true) });
  const options: [number, Uint8Array?][] = [
    [LIST],
    [INFO, infoData("disk")],
    [GO, infoData("disk")],
    [STRUCTURED],
    [9, metaData("disk", [])],
    [SET_META, metaData("disk", [])],
    [EXTENDED],
    [99, utf8("?")],
  ];
  for (const [kind, data] of options) assert.equal(await client.ask(kind, data), Rep.ERR_TLS_REQD);
  assert.equal(exports.opened, 0);
  const secret = await encrypt(client);
  assert.equal(await secret.ask(LIST), Rep.ACK);
  assert.equal(await secret.ask(GO, infoData("disk")), Rep.ACK);
  secret.close();
  await done;

  const leaving = await greeted({ tls: maskingTls(true) });
  assert.equal(await leaving.client.ask(ABORT), Rep.ACK);
  await leaving.done;
  for (const flags of [2, 3]) {
    const { client, done } = RawClient.inMemory(leaving.server);
    await client.greet(flags);
    await client.send(option(EXPORT_NAME, utf8("disk")));
    assert.equal((await client.receiveAll()).length, 0);
    await done;
  }
  assert.equal(leaving.exports.opened, 0);
});

Deno.test("STARTTLS: plain text sent behind it is never taken for part of the encrypted conversation", async () => {
  const tls = maskingTls();
  for (const injected of [option(LIST), Uint8Array.of(0x49), utf8(TLS_HELLO)]) {
    const { client, done, exports } = await greeted({ tls });
    await client.send(option(STARTTLS), injected);
    assert.equal((await client.receiveAll()).length, 0);
    await done;
    assert.deepEqual([tls.upgrades, exports.opened], [0, 0]);
  }
  // What arrives later, but before the handshake of TLS, meets that handshake.
  const { client, done } = await greeted({ tls });
  assert.equal(await client.ask(STARTTLS), Rep.ACK);
  await client.send(option(LIST), TLS_HELLO);
  assert.equal((await client.receiveAll()).length, 0);
  await done;
  assert.equal(tls.upgrades, 1);
});

Deno.test("STARTTLS: a client that stalls in the handshake of TLS is cut off in time, or when the server stops", async () => {
  const timed = await greeted({ tls: maskingTls(), handshakeTimeoutMs: 20 });
  assert.equal(await timed.client.ask(STARTTLS), Rep.ACK);
  assert.equal((await timed.client.receiveAll()).length, 0);
  await timed.done;
  const stopped = await greeted({ tls: maskingTls(), handshakeTimeoutMs: 60_000 });
  assert.equal(await stopped.client.ask(STARTTLS), Rep.ACK);
  await stopped.server.close({ graceMs: 60_000 });
  await stopped.done;
});

Deno.test("STARTTLS: encryption that is ready only after the connection was cut is not used", async () => {
  const ready = Promise.withResolvers<void>();
  const tls = maskingTls();
  let [closed, reads] = [0, 0];
  const { client, done } = await greeted({
    handshakeTimeoutMs: 20,
    tls: {
      required: false,
      async upgrade(plain) {
        const upgraded = await tls.upgrade(plain);
        await ready.promise;
        const read = () => {
          reads++;
          return null;
        };
        return { transport: { ...upgraded.transport, read, close: () => void closed++ } };
      },
    },
  });
  assert.equal(await client.ask(STARTTLS), Rep.ACK);
  await client.send(TLS_HELLO);
  while (tls.upgrades === 0) await Promise.resolve();
  assert.equal((await client.receiveAll()).length, 0, "the time for the handshake is over");
  ready.resolve();
  await done;
  assert.deepEqual([closed, reads], [1, 0]);
});

Deno.test("STARTTLS: the fixed reply is the last plain text", async () => {
  const { client, done } = await greeted({ tls: maskingTls() });
  await client.send(option(STARTTLS));
  assert.deepEqual(
    (await client.receive(20)).subarray(8),
    Uint8Array.of(...u32(STARTTLS), ...u32(Rep.ACK), ...u32(0)),
  );
  await client.send(TLS_HELLO);
  const secret = client.masked();
  await secret.send(option(ABORT));
  assert.deepEqual(await secret.optionReply(), { option: ABORT, type: Rep.ACK, data: new Uint8Array() });
  await done;
});

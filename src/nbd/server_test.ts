import assert from "node:assert/strict";
import { VarveError } from "../base/errors.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import {
  infoData,
  makeFolder,
  noise,
  option,
  RawClient,
  request,
  startServer,
  TestExports,
} from "./_testing.ts";
import { openListener, parseListenAddress } from "./listener.ts";
import { NbdServer } from "./server.ts";

const [WRITE, DISC, FLUSH] = [1, 2, 3] as const;

Deno.test("listen address: the grammar is read and written back", () => {
  for (const text of ["unix:/run/varve/nbd.sock", "127.0.0.1:10809", "localhost:0", "[::1]:65535"]) {
    const address = parseListenAddress(text);
    assert.equal(address.kind, text.startsWith("unix:") ? "unix" : "tcp");
  }
  assert.deepEqual(parseListenAddress("[::1]:1"), { kind: "tcp", hostname: "::1", port: 1 });
  for (
    const text of ["", "unix:", ":1", "host", "host:", "host:65536", "host:-1", "::1:1", "a b:1", "host:1x"]
  ) {
    assert.throws(() => parseListenAddress(text), { code: "invalid" }, text);
  }
});

Deno.test("server: a Unix socket is the owner's alone, in folders made for it, and goes with the server", async () => {
  await using folder = await makeFolder();
  const path = `${folder.path}/a/b/nbd.sock`;
  const server = new NbdServer({ exports: new TestExports({}) });
  assert.equal(await server.listen(`unix:${path}`), `unix:${path}`);
  assert.equal((await Deno.stat(path)).mode, 0o140600);
  assert.deepEqual([...Deno.readDirSync(`${folder.path}/a/b`)].map((entry) => entry.name), ["nbd.sock"]);
  await server.close();
  assert.deepEqual([...Deno.readDirSync(`${folder.path}/a/b`)], []);
});

Deno.test("server: the file of a dead server is replaced, that of a living one or anything else is not", async () => {
  await using folder = await makeFolder();
  const path = `${folder.path}/nbd.sock`;
  const dead = Deno.listen({ transport: "unix", path: `${folder.path}/before` });
  await Deno.rename(`${folder.path}/before`, path);
  dead.close();
  assert.ok((await Deno.lstat(path)).isSocket);
  const first = await openListener(`unix:${path}`);
  await assert.rejects(openListener(`unix:${path}`), { name: "VarveError", code: "conflict" });
  first.close();
  await Deno.writeTextFile(path, "precious");
  await assert.rejects(openListener(`unix:${path}`), { name: "VarveError", code: "conflict" });
  assert.equal(await Deno.readTextFile(path), "precious");
});

Deno.test("server: a file that took the socket's place stays when the server goes", async () => {
  await using folder = await makeFolder();
  const listener = await openListener(`unix:${folder.path}/nbd.sock`);
  await Deno.rename(`${folder.path}/nbd.sock`, `${folder.path}/old.sock`);
  await Deno.writeTextFile(`${folder.path}/nbd.sock`, "other");
  listener.close();
  assert.equal(await Deno.readTextFile(`${folder.path}/nbd.sock`), "other");
});

Deno.test("server: serves several addresses and counts connections by export", async () => {
  await using started = await startServer({ a: new MemoryDevice(4096), b: new MemoryDevice(4096) });
  const { server, exports } = started;
  const tcp = await server.listen("127.0.0.1:0");
  await assert.rejects(server.listen(tcp), { name: "VarveError", code: "conflict" });
  assert.deepEqual(server.addresses, [started.address, tcp]);
  const clients = [
    await RawClient.connect(tcp),
    await RawClient.connect(started.address),
    await RawClient.connect(tcp),
  ];
  for (const client of clients.slice(0, 2)) await client.enter("a");
  await clients[2]?.enter("b");
  assert.deepEqual([server.connections(), server.connections("a"), server.connections("b")], [3, 2, 1]);
  assert.equal(server.connections("c"), 0);
  for (const client of clients) {
    await client.send(request({ type: DISC }));
    await client.receiveAll();
    client.close();
  }
  await server.close();
  assert.deepEqual([server.connections(), server.connections("a")], [0, 0]);
  assert.deepEqual([exports.opened, exports.closed], [3, 3]);
});

Deno.test("server: turns clients away beyond the cap", async () => {
  await using started = await startServer({ a: new MemoryDevice(4096) }, { maxConnections: 1 });
  const first = await RawClient.connect(started.address);
  await first.enter("a");
  const second = await RawClient.connect(started.address);
  assert.equal((await second.receiveAll()).length, 0);
  second.close();
  await first.send(request({ type: FLUSH }));
  assert.equal((await first.reply()).error, 0);
  first.close();
});

Deno.test("server: close lets commands under way end, then no client is left", async () => {
  const device = new MemoryDevice(4096);
  let release = () => {};
  device.flush = () => new Promise((resolve) => release = resolve);
  await using started = await startServer({ a: device });
  const { server, exports } = started;
  const [busy, idle, deciding] = [
    await RawClient.connect(started.address),
    await RawClient.connect(started.address),
    await RawClient.connect(started.address),
  ];
  await busy.enter("a");
  await idle.enter("a");
  await deciding.greet();
  await busy.send(
    request({ type: FLUSH, cookie: 1n }),
    request({ type: WRITE, cookie: 2n, payload: noise(5) }),
  );
  assert.deepEqual(await busy.reply(), { error: 0, cookie: 2n });
  const closed = server.close({ graceMs: 60_000 });
  assert.equal((await idle.receiveAll()).length, 0);
  assert.equal((await deciding.receiveAll()).length, 0);
  await assert.rejects(RawClient.connect(started.address));
  release();
  assert.deepEqual(await busy.reply(), { error: 0, cookie: 1n });
  assert.equal((await busy.receiveAll()).length, 0);
  await closed;
  assert.deepEqual([exports.opened, exports.closed], [2, 2]);
  for (const client of [busy, idle, deciding]) client.close();
});

Deno.test("server: close waits for the rest of half a request, but not beyond its grace", async () => {
  for (const graceMs of [60_000, 0]) {
    const device = new MemoryDevice(4096);
    await using started = await startServer({ a: device });
    const client = await RawClient.connect(started.address);
    await client.enter("a");
    const bytes = request({ type: WRITE, payload: noise(100) });
    await client.send(request({ type: FLUSH }), bytes.subarray(0, 50));
    await client.reply();
    const closed = started.server.close({ graceMs });
    if (graceMs > 0) {
      await client.send(bytes.subarray(50));
      assert.equal((await client.reply()).error, 0);
    }
    assert.equal((await client.receiveAll()).length, 0);
    await closed;
    assert.equal(device.extents(0, 4096)[0]?.kind, graceMs > 0 ? "data" : "hole");
    client.close();
  }
});

Deno.test("server: nothing is served or listened to after close", async () => {
  const server = new NbdServer({ exports: new TestExports({}) });
  await server.close();
  const { client, done } = RawClient.inMemory(server);
  assert.equal((await client.receiveAll()).length, 0);
  await done;
  await assert.rejects(server.listen("127.0.0.1:0"), { name: "VarveError", code: "conflict" });
});

Deno.test("server: a client that does not read its replies holds up nobody else", async () => {
  const device = new MemoryDevice(1024 * 1024, { content: noise(1024 * 1024) });
  let reads = 0;
  const read = device.read.bind(device);
  device.read = (offset, target) => {
    reads++;
    read(offset, target);
  };
  await using started = await startServer({ a: device });
  const greedy = await RawClient.connect(started.address);
  await greedy.enter("a");
  await greedy.send(...Array.from({ length: 200 }, () => request({ length: 1024 * 1024 })));
  const other = await RawClient.connect(started.address);
  await other.enter("a");
  for (let count = 0; count < 20; count++) {
    await other.send(request({ length: 1000 }));
    assert.equal((await other.reply()).error, 0);
    await other.receive(1000);
  }
  assert.ok(reads < 20 + 20, `${reads} reads for a client that takes nothing`);
  greedy.close();
  other.close();
});

Deno.test("server: a provider whose close fails is reported and harms nobody", async () => {
  const problems: string[] = [];
  const device = new MemoryDevice(4096);
  const close = () => Promise.reject(new VarveError("io", "cannot close"));
  const server = new NbdServer({
    exports: { list: () => [], open: () => Promise.resolve({ device, description: "", client: 1, close }) },
    onProblem: (error) => problems.push(error.message),
  });
  const { client, done } = RawClient.inMemory(server);
  await client.greet();
  await client.send(option(6, infoData("x")));
  await client.optionReply();
  await client.optionReply();
  client.close();
  await done;
  assert.deepEqual(problems, ["cannot close"]);
});

Deno.test("server: sockets that are closed by half, in mid-payload or after garbage end cleanly", async () => {
  const device = new MemoryDevice(65_536);
  await using started = await startServer({ a: device });
  const { server, exports } = started;
  for (const address of [started.address, await server.listen("127.0.0.1:0")]) {
    const half = await RawClient.connect(address);
    await half.enter("a");
    await half.send(
      request({ type: WRITE, cookie: 1n, payload: noise(5000) }),
      request({ cookie: 2n, length: 5000 }),
    );
    await half.endSending();
    for (let count = 0; count < 2; count++) {
      const { error, cookie } = await half.reply();
      assert.equal(error, 0);
      if (cookie === 2n) assert.deepEqual(await half.receive(5000), noise(5000));
    }
    assert.equal((await half.receiveAll()).length, 0);
    half.close();

    const torn = await RawClient.connect(address);
    await torn.enter("a");
    await torn.send(request({ type: WRITE, offset: 8192, payload: noise(5000) }).subarray(0, 3000));
    torn.close();

    const loud = await RawClient.connect(address);
    await loud.send(noise(100_000, 99));
    await loud.receiveAll();
    loud.close();

    const rude = await RawClient.connect(address);
    await rude.enter("a");
    await rude.send(noise(100_000, 98));
    await rude.receiveAll();
    rude.close();
  }
  await server.close();
  assert.deepEqual([exports.opened, exports.closed], [6, 6]);
  assert.equal(device.extents(8192, 8192)[0]?.kind, "hole");
});

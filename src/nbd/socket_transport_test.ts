import assert from "node:assert/strict";
import { connPeer, type MakePair, testTransport } from "./_transport_conformance.ts";
import { makeFolder, noise } from "./_testing.ts";
import { openListener, parseListenAddress } from "./listener.ts";

async function connect(address: string): Promise<Deno.Conn> {
  const parsed = parseListenAddress(address);
  if (parsed.kind === "unix") return await Deno.connect({ transport: "unix", path: parsed.path });
  return await Deno.connect({ hostname: parsed.hostname, port: parsed.port });
}

function pairsAt(address: (folder: string) => string): MakePair {
  return async () => {
    const folder = await makeFolder();
    const listener = await openListener(address(folder.path));
    const peer = connPeer(await connect(listener.address));
    const transport = await listener.accept();
    listener.close();
    return {
      transport,
      peer,
      async [Symbol.asyncDispose]() {
        transport.close();
        peer.close();
        await folder[Symbol.asyncDispose]();
      },
    };
  };
}

testTransport("Unix socket", pairsAt((folder) => `unix:${folder}/s`));
testTransport("TCP", pairsAt(() => "127.0.0.1:0"));
testTransport("TCP over IPv6", pairsAt(() => "[::1]:0"));

const O_NONBLOCK = 0o4000;

/** The flags of every socket that this process has open. */
function socketFlags(): number[] {
  return [...Deno.readDirSync("/proc/self/fd")].flatMap(({ name }) => {
    try {
      if (!Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("socket:")) return [];
      const info = Deno.readTextFileSync(`/proc/self/fdinfo/${name}`);
      return [parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? "", 8)];
    } catch {
      // It was the descriptor of the listing itself.
      return [];
    }
  });
}

function openSockets(): number {
  return socketFlags().length;
}

Deno.test("socket transport: tells who is at the other end", async () => {
  await using folder = await makeFolder();
  for (const address of [`unix:${folder.path}/s`, "127.0.0.1:0", "[::1]:0"]) {
    const listener = await openListener(address);
    const conn = await connect(listener.address);
    const transport = await listener.accept();
    const local = conn.localAddr;
    if (local.transport === "tcp") {
      const host = local.hostname.includes(":") ? `[${local.hostname}]` : local.hostname;
      assert.equal(transport.peer, `${host}:${local.port}`);
      assert.equal(transport.credentials, undefined);
    } else {
      assert.equal(transport.peer, "unix");
      assert.deepEqual(transport.credentials, { pid: Deno.pid, uid: Deno.uid(), gid: Deno.gid() });
    }
    transport.close();
    conn.close();
    listener.close();
  }
});

Deno.test("socket transport: two thousand clients come and go, and no descriptor stays", async () => {
  await using folder = await makeFolder();
  const before = openSockets();
  for (const address of [`unix:${folder.path}/s`, "127.0.0.1:0"]) {
    const listener = await openListener(address);
    const serving: Promise<void>[] = [];
    const accepting = (async () => {
      for (;;) {
        const transport = await listener.accept();
        serving.push((async () => {
          const target = new Uint8Array(100);
          const received = await transport.read(target);
          await transport.write([target.subarray(0, received ?? 0)]);
          // Either side is the first to close.
          if (target[0] === 0) await transport.read(target);
          transport.close();
        })());
      }
    })();
    const ended = assert.rejects(accepting, { code: "cancelled" });
    for (let round = 0; round < 20; round++) {
      await Promise.all(Array.from({ length: 50 }, async (_, index) => {
        const conn = await connect(listener.address);
        await conn.write(Uint8Array.of(index % 2, round));
        const target = new Uint8Array(10);
        assert.equal(await conn.read(target), 2);
        assert.deepEqual([...target.subarray(0, 2)], [index % 2, round]);
        conn.close();
      }));
    }
    await Promise.all(serving);
    assert.equal(serving.length, 1000);
    listener.close();
    await ended;
  }
  // The event loop closes its descriptors when it turns.
  for (let turn = 0; turn < 100 && openSockets() > before; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.ok(openSockets() <= before, `${openSockets()} sockets are open, ${before} were`);
});

Deno.test("socket transport: a client that floods leaves timers and other clients their turn", async () => {
  await using folder = await makeFolder();
  const listener = await openListener(`unix:${folder.path}/s`);
  const flood = new Deno.Command("/usr/bin/python3", {
    args: [
      "-c",
      "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n" +
      "try:\n  while True: s.sendall(bytes(1 << 20))\nexcept OSError: pass\n",
      `${folder.path}/s`,
    ],
  }).spawn();
  const transport = await listener.accept();
  let fired = 0;
  const timer = setInterval(() => fired++, 1);
  // Bytes come faster than such reads take them, and awaiting a number gives nobody else a turn.
  const target = new Uint8Array(8);
  for (let reads = 0; fired < 5; reads++) {
    assert.ok(reads < 2_000_000, `${fired} timers in ${reads} reads`);
    await transport.read(target);
  }
  clearInterval(timer);
  transport.close();
  listener.close();
  await flood.status;
});

Deno.test("socket transport: a call on another thread leaves the socket as the event loop needs it", async () => {
  await using folder = await makeFolder();
  const listener = await openListener(`unix:${folder.path}/s`);
  const conn = await connect(listener.address);
  const transport = await listener.accept();
  const first = transport.read(new Uint8Array(10));
  await conn.write(noise(10));
  assert.equal(await first, 10);
  const waiting = () => socketFlags().filter((flags) => (flags & O_NONBLOCK) === 0).length;
  const before = waiting();
  const target = new Uint8Array(500_000);
  const filled = transport.readAll?.(target);
  assert.ok(waiting() > before);
  await connPeer(conn).send(noise(target.length));
  assert.equal(await filled, true);
  const next = transport.read(target);
  assert.equal(waiting(), before);
  await conn.write(noise(7));
  assert.equal(await next, 7);
  transport.close();
  conn.close();
  listener.close();
});

Deno.test("socket transport: a peer that resets its connection is a failure or the end, never a crash", async () => {
  const listener = await openListener("127.0.0.1:0");
  for (let round = 0; round < 20; round++) {
    const conn = await connect(listener.address);
    const transport = await listener.accept();
    // What is unread when a TCP socket is closed makes its end a reset.
    await transport.write([noise(1000)]);
    const read = transport.readAll?.(new Uint8Array(500_000)).catch(() => false);
    await conn.write(noise(1000));
    conn.close();
    assert.equal(await read, false);
    await Promise.try(() => transport.write([noise(1000)])).catch(() => {});
    transport.close();
  }
  listener.close();
});

Deno.test("listener: a path that no socket can have is refused as such", async () => {
  await using folder = await makeFolder();
  await assert.rejects(openListener(`unix:${folder.path}/${"x".repeat(120)}/s`), { code: "invalid" });
  await assert.rejects(openListener("no-such-host.invalid:1"), { name: "VarveError" });
});

Deno.test("listener: a process whose sockets are all closed ends by itself", async () => {
  await using folder = await makeFolder();
  const script = `
    import { openListener } from "${new URL("listener.ts", import.meta.url)}";
    const listener = await openListener("unix:${folder.path}/s");
    const accepting = listener.accept();
    const conn = await Deno.connect({ transport: "unix", path: "${folder.path}/s" });
    const transport = await accepting;
    const waits = [transport.read(new Uint8Array(9)), listener.accept()];
    transport.close();
    listener.close();
    conn.close();
    console.log((await Promise.allSettled(waits)).map(({ status }) => status).join());
  `;
  await Deno.writeTextFile(`${folder.path}/script.ts`, script);
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${folder.path}/script.ts`],
    signal: AbortSignal.timeout(60_000),
  }).output();
  assert.equal(new TextDecoder().decode(output.stdout), "rejected,rejected\n");
  assert.equal(output.code, 0, new TextDecoder().decode(output.stderr));
});

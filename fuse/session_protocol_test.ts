import assert from "node:assert/strict";
import { INIT_FLAG, OPCODE } from "./abi.ts";
import type { Received } from "./device.ts";
import type { DirectoryNode, FileNode, Found } from "./filesystem.ts";
import { Session, type SessionOptions } from "./session.ts";
import { ownAttributes } from "./virtual.ts";

/** Plays the kernel: hands out the requests given, keeps the replies, then says that the mount is gone. */
class FakeDevice {
  readonly replies: { unique: bigint; error: number; body: Uint8Array }[] = [];
  readonly #requests: Received[];
  /** Whether the kernel still wants replies. */
  wanted = true;

  constructor(requests: Uint8Array<ArrayBuffer>[]) {
    this.#requests = [...requests, "ended"];
  }

  wait(): Promise<void> {
    return Promise.resolve();
  }

  receive(): Received {
    return this.#requests.shift() ?? "ended";
  }

  send(reply: Uint8Array): boolean {
    const view = new DataView(reply.buffer, reply.byteOffset);
    assert.equal(view.getUint32(0, true), reply.length);
    this.replies.push({
      unique: view.getBigUint64(8, true),
      error: 0 - view.getInt32(4, true),
      body: reply.slice(16),
    });
    return this.wanted;
  }
}

let lastUnique = 0n;

function request(opcode: number, { node = 1, body = [] }: { node?: number; body?: number[] } = {}) {
  const bytes = new Uint8Array(40 + 4 * body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(4, opcode, true);
  view.setBigUint64(8, lastUnique += 2n, true);
  view.setUint32(16, node, true);
  body.forEach((word, index) => view.setUint32(40 + 4 * index, word, true));
  return bytes;
}

const file: FileNode = {
  kind: "file",
  key: "file",
  attributeSeconds: 1,
  attributes: () => ownAttributes("file", { type: "file", mode: 0o444, timeNs: 0n }),
  open: () => ({ caching: "keep", read: () => 0, seek: () => undefined }),
};
const found: Found = {
  node: file,
  nameSeconds: 1,
  attributes: ownAttributes("file", { type: "file", mode: 0, timeNs: 0n }),
};
const root: DirectoryNode = {
  kind: "directory",
  key: "root",
  immutable: false,
  attributeSeconds: 1,
  attributes: () => ownAttributes("root", { type: "directory", mode: 0o755, timeNs: 0n }),
  lookup: () => found,
  list: () => [{ name: new Uint8Array([0x61]), inode: 1n, type: "file", found: () => found }],
};

async function serve(device: FakeDevice, options: SessionOptions & { root?: DirectoryNode } = {}) {
  let closed = 0;
  const session = new Session(device, { root: options.root ?? root, close: () => closed++ }, options);
  await session.run();
  assert.equal(closed, 1);
  return session;
}

function word(body: Uint8Array, index: number): number {
  return new DataView(body.buffer, body.byteOffset).getUint32(4 * index, true);
}

Deno.test("INIT agrees on our version and on flags that the kernel offers", async () => {
  const offered = INIT_FLAG.ASYNC_READ | INIT_FLAG.MAX_PAGES | (1 << 16);
  const device = new FakeDevice([request(OPCODE.INIT, { body: [7, 45, 0x20000, offered] })]);
  let ready = 0;
  await serve(device, { onReady: () => ready++ });
  const [reply] = device.replies;
  assert.ok(reply);
  assert.deepEqual([0, 1, 2, 3].map((index) => word(reply.body, index)), [
    7,
    38,
    0x20000,
    INIT_FLAG.ASYNC_READ | INIT_FLAG.MAX_PAGES,
  ]);
  assert.equal(ready, 1);
});

Deno.test("INIT of a newer major version is answered with ours, and waits for the next", async () => {
  const device = new FakeDevice([
    request(OPCODE.INIT, { body: [8, 0, 0, 0] }),
    request(OPCODE.INIT, { body: [7, 31, 0, 0] }),
  ]);
  let ready = 0;
  await serve(device, { onReady: () => ready++ });
  assert.deepEqual(device.replies.map(({ body }) => [word(body, 0), word(body, 1)]), [[7, 0], [7, 31]]);
  assert.equal(ready, 1);
});

Deno.test("INIT of a kernel that is too old ends the session with an error", async () => {
  const device = new FakeDevice([request(OPCODE.INIT, { body: [7, 27, 0, 0] })]);
  await assert.rejects(serve(device), { name: "VarveError", code: "unsupported", message: /7\.27/ });
  assert.deepEqual(device.replies.map(({ error }) => error), [71]);
});

Deno.test("FORGET and INTERRUPT are not answered", async () => {
  const device = new FakeDevice([
    request(OPCODE.FORGET, { node: 5, body: [1, 0] }),
    request(OPCODE.BATCH_FORGET, { body: [1, 0, 5, 0, 1, 0] }),
    request(OPCODE.INTERRUPT, { body: [2, 0] }),
  ]);
  await serve(device);
  assert.deepEqual(device.replies, []);
});

Deno.test("what is not served is ENOSYS, what would change something EROFS, and the session goes on", async () => {
  const operations = [
    OPCODE.ACCESS,
    OPCODE.FLUSH,
    9999,
    OPCODE.WRITE,
    OPCODE.SETATTR,
    OPCODE.IOCTL,
    OPCODE.STATFS,
  ];
  const device = new FakeDevice(operations.map((opcode) => request(opcode, { body: [0, 0] })));
  await serve(device);
  assert.deepEqual(device.replies.map(({ error }) => error), [38, 38, 38, 30, 30, 25, 0]);
});

Deno.test("nodes, handles and kinds that do not fit are refused", async () => {
  const read = [77, 0, 0, 0, 4096, 0, 0, 0, 0, 0];
  const device = new FakeDevice([
    request(OPCODE.GETATTR, { node: 99, body: [0, 0, 0, 0] }),
    request(OPCODE.READLINK),
    request(OPCODE.OPEN, { body: [0, 0] }),
    request(OPCODE.READ, { body: read }),
    request(OPCODE.READDIR, { body: read }),
    request(OPCODE.LSEEK, { body: [77, 0, 0, 0, 3, 0] }),
    request(OPCODE.LOOKUP, { body: [0x61] }),
    request(OPCODE.OPENDIR, { node: 2, body: [0, 0] }),
    request(OPCODE.LOOKUP, { node: 2, body: [0x61] }),
    request(OPCODE.OPEN, { node: 2, body: [1, 0] }),
  ]);
  await serve(device);
  assert.deepEqual(device.replies.map(({ error }) => error), [2, 22, 21, 22, 22, 22, 0, 20, 20, 30]);
});

Deno.test("numbers in a reply that the kernel did not take are taken back", async () => {
  const opened = new FakeDevice([request(OPCODE.OPENDIR, { body: [0, 0] })]);
  await serve(opened);
  const [reply] = opened.replies;
  assert.ok(reply);
  const handle = word(reply.body, 0);

  const readPlus = request(OPCODE.READDIRPLUS, { body: [handle, 0, 0, 0, 4096, 0, 0, 0, 0, 0] });
  for (const [wanted, nodes] of [[true, 2], [false, 1]] as const) {
    const device = new FakeDevice([request(OPCODE.OPENDIR, { body: [0, 0] }), readPlus]);
    const send = device.send.bind(device);
    device.send = (bytes) => send(bytes) && (wanted || device.replies.length < 2);
    assert.equal((await serve(device)).nodeCount, nodes, `listing, wanted: ${wanted}`);

    const lookup = new FakeDevice([request(OPCODE.LOOKUP, { body: [0x61] })]);
    lookup.wanted = wanted;
    assert.equal((await serve(lookup)).nodeCount, nodes, `look-up, wanted: ${wanted}`);
  }
});

Deno.test("a node is known until every reply that carried it is forgotten", async () => {
  const lookup = () => request(OPCODE.LOOKUP, { body: [0x61] });
  const forget = (count: number) => request(OPCODE.FORGET, { node: 2, body: [count, 0] });
  const root = (count: number) => request(OPCODE.FORGET, { node: 1, body: [count, 0] });
  assert.equal((await serve(new FakeDevice([lookup(), lookup(), lookup(), forget(2)]))).nodeCount, 2);
  assert.equal(
    (await serve(new FakeDevice([lookup(), lookup(), lookup(), forget(3), root(9)]))).nodeCount,
    1,
  );
});

Deno.test("answers that come later are sent, and their failures too", async () => {
  const slow: DirectoryNode = {
    ...root,
    lookup: async () => {
      await Promise.resolve();
      throw new Error("unforeseen");
    },
    attributes: () => Promise.resolve(root.attributes()),
  };
  const device = new FakeDevice([
    request(OPCODE.LOOKUP, { body: [0x61] }),
    request(OPCODE.GETATTR, { body: [0, 0, 0, 0] }),
  ]);
  const receive = device.receive.bind(device);
  let empty = 3;
  device.receive = () => {
    const received = receive();
    if (received !== "ended" || empty-- === 0) return received;
    return "empty";
  };
  await serve(device, { root: slow });
  assert.deepEqual(device.replies.map(({ error }) => error).sort(), [0, 5]);
});

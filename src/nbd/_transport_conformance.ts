/** What every {@linkcode Transport} does, whatever is under it: cases that each kind of transport is run through. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { noise } from "./_testing.ts";
import type { Transport } from "./transport.ts";

/** The client's end of a transport. */
export interface TransportPeer {
  /** Resolves when all bytes are on their way. */
  send(bytes: Uint8Array): Promise<void>;
  /** At least one byte; `null` at the end, a lost connection included. */
  receive(target: Uint8Array): Promise<number | null>;
  /** Says that nothing more will be sent. */
  endSending(): Promise<void> | void;
  /** Ends both directions at once; may be called again. */
  close(): void;
}

/** A transport with its other end, both closed when disposed of. */
export interface TransportPair extends AsyncDisposable {
  readonly transport: Transport;
  readonly peer: TransportPeer;
}

/** Makes pairs of one kind. */
export type MakePair = () => Promise<TransportPair>;

/** A peer over a connection of the runtime. */
export function connPeer(conn: Deno.Conn): TransportPeer {
  let open = true;
  return {
    async send(bytes) {
      for (let sent = 0; sent < bytes.length;) sent += await conn.write(bytes.subarray(sent));
    },
    receive: (target) => conn.read(target).catch(() => null),
    endSending: () => conn.closeWrite(),
    close() {
      if (open) conn.close();
      open = false;
    },
  };
}

async function receiveExactly(peer: TransportPeer, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const received = await peer.receive(bytes.subarray(done));
    if (received === null) throw new Error(`the other end closed after ${done} of ${length} bytes`);
    done += received;
  }
  return bytes;
}

async function readExactly(transport: Transport, length: number, most = length): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const received = await transport.read(bytes.subarray(done, done + most));
    if (received === null) throw new Error(`the peer ended after ${done} of ${length} bytes`);
    done += received;
  }
  return bytes;
}

const LARGE = 6 * 1024 * 1024 + 123;

const CASES: Record<string, (pair: TransportPair) => Promise<void>> = {
  async "bytes arrive in order, both ways at the same time"({ transport, peer }) {
    const [up, down] = [noise(LARGE, 1), noise(LARGE, 2)];
    const [read, received] = await Promise.all([
      readExactly(transport, LARGE),
      receiveExactly(peer, LARGE),
      peer.send(up),
      transport.write([
        down.subarray(0, 5),
        new Uint8Array(),
        down.subarray(5, 70_000),
        down.subarray(70_000),
      ]),
    ]);
    assert.deepEqual(read, up);
    assert.deepEqual(received, down);
  },

  async "small reads get a large message, one piece after the other"({ transport, peer }) {
    const message = noise(100_000);
    const sent = peer.send(message);
    assert.deepEqual(await readExactly(transport, 1000, 1), message.subarray(0, 1000));
    assert.deepEqual(await readExactly(transport, 99_000, 777), message.subarray(1000));
    await sent;
  },

  async "what arrives while nobody reads is kept, and the end comes behind it"({ transport, peer }) {
    await peer.send(noise(1000));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await peer.send(noise(1000, 2));
    await peer.endSending();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(await readExactly(transport, 1000), noise(1000));
    assert.deepEqual(await readExactly(transport, 1000), noise(1000, 2));
    for (let count = 0; count < 2; count++) assert.equal(await transport.read(new Uint8Array(10)), null);
  },

  async "a peer that has ended its sending still receives"({ transport, peer }) {
    const read = transport.read(new Uint8Array(10));
    await peer.endSending();
    assert.equal(await read, null);
    const [received] = await Promise.all([receiveExactly(peer, LARGE), transport.write([noise(LARGE)])]);
    assert.deepEqual(received, noise(LARGE));
    transport.close();
    assert.equal(await peer.receive(new Uint8Array(10)), null);
  },

  async "a peer that ends its sending while a write is under way receives all of it"({ transport, peer }) {
    const write = transport.write([noise(LARGE)]);
    const read = transport.read(new Uint8Array(10));
    await peer.endSending();
    assert.equal(await read, null);
    assert.deepEqual(await receiveExactly(peer, LARGE), noise(LARGE));
    await write;
  },

  async "close fails a pending read and all that comes later, and may be called again"({ transport, peer }) {
    const read = transport.read(new Uint8Array(10));
    assert.ok(read instanceof Promise);
    transport.close();
    await assert.rejects(read);
    transport.close();
    await assert.rejects(async () => await transport.read(new Uint8Array(10)));
    await assert.rejects(async () => await transport.write([noise(10)]));
    assert.equal(await peer.receive(new Uint8Array(10)), null);
  },

  async "close fails a pending write to a peer that never reads"({ transport }) {
    const write = transport.write([noise(4 * LARGE), noise(LARGE)]);
    assert.ok(write instanceof Promise);
    const failed = assert.rejects(write);
    await new Promise((resolve) => setTimeout(resolve, 10));
    transport.close();
    await failed;
  },

  async "a peer that goes fails a pending write, and ends or fails a read"({ transport, peer }) {
    const write = transport.write([noise(4 * LARGE)]);
    const failed = assert.rejects(async () => await write);
    const read = Promise.resolve(transport.read(new Uint8Array(10))).catch(() => null);
    peer.close();
    await failed;
    assert.equal(await read, null);
  },

  async "reads of any kind and size take up where the one before ended"({ transport, peer }) {
    const sizes = fc.array(
      fc.record({ size: fc.nat({ max: 400_000 }), all: fc.boolean(), pause: fc.boolean() }),
      { maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(sizes, async (steps) => {
        const message = noise(steps.reduce((sum, { size }) => sum + size, 0), 5);
        const sent = peer.send(message);
        let done = 0;
        for (const { size, all, pause } of steps) {
          if (pause) await new Promise((resolve) => setTimeout(resolve, 1));
          const expected = message.subarray(done, done + size);
          const target = new Uint8Array(size);
          if (all && transport.readAll !== undefined) assert.equal(await transport.readAll(target), true);
          else target.set(await readExactly(transport, size));
          assert.ok(expected.every((byte, at) => byte === target[at]), `${size} bytes behind ${done}`);
          done += size;
        }
        await sent;
      }),
      { numRuns: 25 },
    );
  },

  async "readAll waits for a slow peer, and tells of an early end"({ transport, peer }) {
    if (transport.readAll === undefined) return;
    const message = noise(1_000_000);
    const target = new Uint8Array(message.length);
    const filled = transport.readAll(target);
    await peer.send(message.subarray(0, 300_000));
    // Longer than one call on another thread goes on.
    await new Promise((resolve) => setTimeout(resolve, 700));
    await peer.send(message.subarray(300_000));
    assert.equal(await filled, true);
    assert.deepEqual(target, message);
    const short = transport.readAll(target);
    await peer.send(message.subarray(0, 300_000));
    await peer.endSending();
    assert.equal(await short, false);
  },

  async "close fails a pending readAll"({ transport, peer }) {
    if (transport.readAll === undefined) return;
    const failed = assert.rejects(transport.readAll(new Uint8Array(1_000_000)));
    await peer.send(noise(1000));
    transport.close();
    await failed;
  },
};

/** Runs a kind of transport through every case. */
export function testTransport(kind: string, makePair: MakePair): void {
  for (const [name, run] of Object.entries(CASES)) {
    Deno.test(`transport, ${kind}: ${name}`, async () => {
      await using pair = await makePair();
      await run(pair);
    });
  }
}

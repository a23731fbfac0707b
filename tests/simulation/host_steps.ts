/** What hosts do: steps that send commands over connections, and those that make and end connections. */
import type { SeededRandom } from "../../src/base/seeded_random.ts";
import { type Change, noiseAt, textAt } from "./model.ts";
import type { Subject } from "./subject.ts";
import type { OpenConnection, World } from "./world.ts";

const REGION_BYTES = 16 << 20;
/** Connections at a time. */
export const CONNECTIONS_MAX = 6;

/** A connection to the live volume, made when there is none. */
async function host(world: World, subject: Subject): Promise<OpenConnection | undefined> {
  const open = world.connections.filter((connection) =>
    connection.subject === subject && connection.seq === undefined && connection.client.isOpen
  );
  const found = open[world.random.below(Math.max(1, open.length))];
  if (found !== undefined) return found;
  const made = await world.connect(subject);
  if (typeof made !== "string") return made;
  if (!world.faulty) world.violate(`${subject.name}: a host is refused: ${made}`);
  return undefined;
}

async function send(
  world: World,
  subject: Subject,
  ...requests: { change: Change | { kind: "read"; offset: number; length: number }; fua?: boolean }[]
): Promise<void> {
  const connection = await host(world, subject);
  for (const { change, fua } of requests) {
    world.note(
      `  ${change.kind} ${"offset" in change ? change.offset : ""}+${
        "data" in change ? change.data.length : "length" in change ? change.length : ""
      }${fua ? " FUA" : ""}`,
    );
  }
  connection?.client.request(...requests);
}

/** Often the same few places, so that versions pile up. */
export function placeOf(world: World, subject: Subject, granularity: number): number {
  const { random } = world;
  const within = random.oneIn(3) ? subject.sizeBytes : Math.min(subject.sizeBytes, 64 * 4096);
  const from = within < subject.sizeBytes && random.oneIn(4) ? subject.sizeBytes - within : 0;
  return Math.floor((from + random.below(within)) / granularity) * granularity;
}

/** Every other write can be compressed, so that most segments can. */
function dataOf(random: SeededRandom, length: number): Uint8Array {
  return random.oneIn(2) ? noiseAt(random.bits(), length) : textAt(random.bits(), length);
}

function writeOf(world: World, subject: Subject, options: { granularity: number; maxBytes: number }): Change {
  const { random } = world;
  const { granularity, maxBytes } = options;
  const offset = placeOf(world, subject, granularity);
  const wanted = Math.ceil((1 + random.below(maxBytes)) / granularity) * granularity;
  const length = Math.max(1, Math.min(wanted, subject.sizeBytes - offset));
  return { kind: "write", offset, data: dataOf(random, length) };
}

/** Some writes of whole blocks, sent together. */
export async function writes(world: World, subject: Subject): Promise<void> {
  const requests = Array.from({ length: 1 + world.random.below(6) }, () => ({
    change: writeOf(world, subject, { granularity: 4096, maxBytes: world.random.oneIn(5) ? 65536 : 12288 }),
  }));
  await send(world, subject, ...requests);
}

/** Some writes of any length at any place. */
export async function unalignedWrites(world: World, subject: Subject): Promise<void> {
  const requests = Array.from({ length: 1 + world.random.below(3) }, () => ({
    change: writeOf(world, subject, { granularity: 1, maxBytes: world.random.pick([1, 600, 9000]) }),
  }));
  await send(world, subject, ...requests);
}

/** One write of many blocks. */
export async function largeWrite(world: World, subject: Subject): Promise<void> {
  const maxBytes = world.random.oneIn(4) ? 3 << 20 : 400_000;
  const granularity = world.random.oneIn(3) ? 512 : 4096;
  await send(world, subject, { change: writeOf(world, subject, { granularity, maxBytes }) });
}

/** A trim or a zeroing. */
export async function makeHole(world: World, subject: Subject): Promise<void> {
  const { random } = world;
  const offset = placeOf(world, subject, random.pick([1, 512, 4096]));
  const length = 1 + random.below(Math.min(subject.sizeBytes - offset, random.pick([512, 20_000, 300_000])));
  await send(world, subject, {
    change: { kind: random.pick(["trim", "zero"]), offset, length },
    fua: random.oneIn(6),
  });
}

/** A trim or a zeroing of whole regions. */
export async function makeWideHole(world: World, subject: Subject): Promise<void> {
  const { random } = world;
  const { sizeBytes } = subject;
  const whole = random.oneIn(2) || sizeBytes <= REGION_BYTES;
  const offset = whole ? 0 : random.below(sizeBytes - REGION_BYTES);
  const length = whole
    ? sizeBytes
    : Math.min(sizeBytes - offset, REGION_BYTES + random.below(2 * REGION_BYTES));
  await send(world, subject, { change: { kind: random.pick(["trim", "zero"]), offset, length } });
}

/** A flush. */
export async function flush(world: World, subject: Subject): Promise<void> {
  await send(world, subject, { change: { kind: "flush" } });
}

/** A write with FUA. */
export async function forcedWrite(world: World, subject: Subject): Promise<void> {
  await send(world, subject, {
    change: writeOf(world, subject, { granularity: 512, maxBytes: 8192 }),
    fua: true,
  });
}

/** A read of the present. */
export async function read(world: World, subject: Subject): Promise<void> {
  const offset = placeOf(world, subject, world.random.pick([1, 4096]));
  const length = 1 + world.random.below(Math.min(subject.sizeBytes - offset, 200_000));
  await send(world, subject, { change: { kind: "read", offset, length } });
}

/** One more connection, unless there are enough. */
export async function connect(world: World, subject: Subject): Promise<void> {
  if (world.connections.length >= CONNECTIONS_MAX) return dropConnection(world);
  const made = await world.connect(subject);
  if (typeof made === "string" && !world.faulty) world.violate(`${subject.name}: a host is refused: ${made}`);
}

/** One connection less, in order or not. */
export function dropConnection(world: World): void {
  const index = world.random.below(Math.max(1, world.connections.length));
  const [connection] = world.connections.splice(index, 1);
  if (world.random.oneIn(2)) connection?.client.disconnect();
  else connection?.client.drop();
}

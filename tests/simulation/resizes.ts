/** Resizes: ordered while no host is connected, cut by power cuts, and looked at afterwards. */
import { parseRfc3339 } from "../../src/base/time.ts";
import { openMoment } from "./checks.ts";
import { noteOwnCommands } from "./gaps.ts";
import type { Subject } from "./subject.ts";
import { settle } from "./virtual_time.ts";
import { CALLER, type World } from "./world.ts";

const SIZE_BYTES_MAX = 80 << 20;

/** Gives a volume another size. Of disks that are not the engine's own nobody knows what lies beyond the end. */
export async function resize(world: World, subject: Subject): Promise<void> {
  const { random } = world;
  if (
    world.faulty || subject.isInGap || subject.prune !== undefined || subject.uncertain !== undefined ||
    subject.adoptedPath !== undefined || world.isCopying(subject)
  ) return;
  await disconnect(world, subject);
  const live = await world.live(subject);
  noteOwnCommands(world, subject, live.lastSeq);
  const { sizeBytes: from } = subject;
  const wanted = random.oneIn(3)
    ? random.below(SIZE_BYTES_MAX)
    : from + (random.below(40 * 4096) - 20 * 4096) * (random.oneIn(4) ? 100 : 1);
  const to = Math.max(1 << 17, Math.min(SIZE_BYTES_MAX, wanted));
  if (to === from) return;
  world.note(`  from ${from} to ${to}`);
  subject.resizing = { from, to, isAnswered: false };
  await world.until(
    `resize ${subject.name}`,
    world.appliance.resizeVolume(subject.name, { sizeBytes: to, force: true }, CALLER),
  );
  subject.resizing.isAnswered = true;
  const { model } = subject;
  await attendResize(world, subject);
  // All that it has captured is durable when it is answered, and all before it.
  subject.durableSeq = subject.answeredSeq = model.lastSeq;
  subject.durableOrder = subject.answeredOrder = model.order;
}

/** Ends every connection, so that nobody sends commands that the other size would not have. */
async function disconnect(world: World, subject: Subject): Promise<void> {
  for (const connection of world.connections) if (connection.subject === subject) connection.client.drop();
  world.connections = world.connections.filter((connection) => connection.subject !== subject);
  await settle();
  while (world.appliance.getVolume(subject.name).counts.connections > 0) {
    if (!await world.turn()) world.violate(`${subject.name}: a connection does not end`);
  }
}

/** Takes over what a resize has come to, and the commands of the engine's own that it has left. */
export async function attendResize(world: World, subject: Subject): Promise<void> {
  const { model, resizing } = subject;
  if (resizing === undefined) return;
  const { from, to, isAnswered } = resizing;
  const { lastSeq } = await world.live(subject);
  const found = world.appliance.getVolume(subject.name).sizeBytes;
  if (found !== from && found !== to) {
    world.violate(`${subject.name}: its size is ${found}, not ${from} or ${to}`);
  }
  if (isAnswered && found !== to) {
    world.violate(`${subject.name}: its size is ${found}, and ${to} was answered`);
  }
  const timesUs: number[] = [];
  let fromSeq = found === to ? lastSeq + 1 : undefined;
  for (let seq = lastSeq; seq > model.lastSeq; seq--) {
    const moment = await world.until(`resolve ${seq}`, world.appliance.resolve(subject.name, `seq:${seq}`));
    timesUs.unshift(parseRfc3339(moment.time) ?? 0);
    const sizeBytes = (await openMoment(world, subject, seq))?.sizeBytes;
    if (sizeBytes === to && fromSeq === seq + 1) fromSeq = seq;
    else if (sizeBytes !== from) world.violate(`${subject.name}: sequence ${seq} has ${sizeBytes} bytes`);
  }
  if (found === to) subject.sizeBytes = to;
  subject.resizing = undefined;
  model.resize({ fromSeq: fromSeq ?? 0, sizeBytes: found }, timesUs);
}

/**
 * What may happen while the engine runs: one function for each kind of step, and a table of how often each comes.
 * To add a step, write its function and give it a line in {@linkcode STEPS}.
 */
import type { RetentionPolicy } from "../../src/engine.ts";
import { adoptDisk } from "./adopt.ts";
import { checkFlipped, checkMoment, checkRetained } from "./checks.ts";
import { attendGaps, noteOwnCommands } from "./gaps.ts";
import {
  connect,
  CONNECTIONS_MAX,
  dropConnection,
  flush,
  forcedWrite,
  largeWrite,
  makeHole,
  makeWideHole,
  placeOf,
  read,
  unalignedWrites,
  writes,
} from "./host_steps.ts";
import { resize } from "./resizes.ts";
import { checkDamage, checkSound } from "./scrubs.ts";
import type { Subject } from "./subject.ts";
import { settle } from "./virtual_time.ts";
import { CALLER, type World } from "./world.ts";

/** One kind of step. It may begin work without waiting for its end. */
export type Step = (world: World, subject: Subject) => Promise<void> | void;

const MARKS_MAX = 12;
const SECOND_US = 1_000_000;

/** Kinds of steps with their weights. */
export const STEPS: readonly (readonly [weight: number, name: string, step: Step])[] = [
  [40, "writes", writes],
  [8, "unaligned writes", unalignedWrites],
  [3, "large write", largeWrite],
  [5, "trim or zero", makeHole],
  [2, "wide hole", makeWideHole],
  [8, "flush", flush],
  [6, "FUA write", forcedWrite],
  [8, "read", read],
  [4, "connect", connect],
  [2, "drop a connection", dropConnection],
  [5, "mark", mark],
  [2, "pin", pin],
  [2, "delete a mark", deleteMark],
  [3, "policy", setPolicy],
  [3, "prune", prune],
  [5, "open the past", openPast],
  [4, "read the past", readPast],
  [2, "look at a moment", lookAtMoment],
  [6, "time passes", passTime],
  [6, "wait", wait],
  [3, "adopt a disk", adopt],
  [1, "I/O error", failOperation],
  [2, "full disk", fillDisk],
  [3, "write past a full history", writePast],
  [1, "bit flip", flipBit],
  [2, "scrub", scrub],
  [2, "scrub of damage", scrubDamage],
  [1, "delete the volume", deleteVolume],
  [2, "resize", resize],
];

/** Picks a step by its weight. */
export function pickStep(world: World): { name: string; step: Step } {
  const total = STEPS.reduce((sum, [weight]) => sum + weight, 0);
  let left = world.random.below(total);
  for (const [weight, name, step] of STEPS) {
    left -= weight;
    if (left < 0) return { name, step };
  }
  return { name: "wait", step: wait };
}

/** Notes the outcome of something that people order; a refusal without cause is a violation. */
function attend(world: World, tried: string, work: Promise<unknown>, onDone: () => void): void {
  const { life } = world;
  work.then(() => {
    if (world.disk.powered && life === world.life) onDone();
  }, (thrown) => {
    if (world.faulty) return;
    world.noteViolation(`${tried}: ${thrown instanceof Error ? thrown.message : String(thrown)}`, life);
  });
}

async function mark(world: World, subject: Subject): Promise<void> {
  if (subject.marks.size >= MARKS_MAX) return await deleteMark(world, subject);
  const live = await world.live(subject);
  attendGaps(world, subject);
  if (subject.isInGap) return;
  noteOwnCommands(world, subject, live.lastSeq);
  const name = `m${world.random.below(1000)}`;
  if (subject.marks.has(name)) return;
  const pinned = world.random.oneIn(3);
  const before = live.lastSeq;
  const work = world.appliance.createMark(subject.name, { name, pinned }, CALLER);
  if (live.lastSeq === before) {
    subject.uncertain = { kind: "mark" };
    subject.mayBecome(name, { seq: before + 1, pinned });
    const { life } = world;
    attend(world, `mark ${name}`, work, () => world.noteViolation(`mark ${name} took no sequence`, life));
    return;
  }
  subject.model.apply({ kind: "mark" }, live.lastTimeUs);
  const state = { seq: live.lastSeq, pinned };
  subject.mayBecome(name, state);
  attend(world, `mark ${name}`, work, () => {
    subject.durableSeq = Math.max(subject.durableSeq, state.seq);
    subject.answeredSeq = Math.max(subject.answeredSeq, state.seq);
    subject.becomes(name, state);
  });
}

function anyMark(world: World, subject: Subject): { name: string; seq: number; pinned: boolean } | undefined {
  const marks = subject.certainMarks();
  // While a prune is under way it may take the mark first.
  return subject.prune === undefined ? marks[world.random.below(Math.max(1, marks.length))] : undefined;
}

function pin(world: World, subject: Subject): void {
  const found = anyMark(world, subject);
  if (found === undefined) return;
  const state = { seq: found.seq, pinned: !found.pinned };
  subject.mayBecome(found.name, state);
  attend(
    world,
    `pin ${found.name}`,
    world.appliance.updateMark(subject.name, found.name, { pinned: state.pinned }, CALLER),
    () => subject.becomes(found.name, state),
  );
}

function deleteMark(world: World, subject: Subject): void {
  const found = anyMark(world, subject);
  if (found === undefined) return;
  subject.mayBecome(found.name, undefined);
  attend(
    world,
    `delete mark ${found.name}`,
    world.appliance.deleteMark(subject.name, found.name, CALLER),
    () => subject.becomes(found.name, undefined),
  );
}

const POLICIES: readonly [RetentionPolicy, ...RetentionPolicy[]] = [
  { continuous: "24h", tiers: [{ every: "1h", for: "7d" }, { every: "1d", for: "30d" }] },
  { continuous: "1s", tiers: [] },
  { continuous: "10s", tiers: [{ every: "2s", for: "1m" }] },
  { continuous: "1m", tiers: [{ every: "10s", for: "10m" }, { every: "1m", for: "2h" }] },
  { continuous: "5m", tiers: [{ every: "1h", for: "1d" }] },
  { continuous: "24h", tiers: [], onFull: "passthrough" },
  { continuous: "10s", tiers: [{ every: "2s", for: "1m" }], onFull: "passthrough" },
  { continuous: "7d", tiers: [{ every: "1h", for: "30d" }], onFull: "passthrough" },
];

function setPolicy(world: World, subject: Subject): void {
  if (subject.policies.length > 1) return;
  const policy = world.random.pick(POLICIES);
  const text = JSON.stringify(policy);
  subject.policies.push(text);
  attend(
    world,
    "set the policy",
    world.appliance.setRetention(subject.name, policy, CALLER),
    () => subject.policies = [text],
  );
}

async function prune(world: World, subject: Subject): Promise<void> {
  if (subject.prune !== undefined || world.faulty || world.isCopying(subject)) return;
  const marks = subject.certainMarks();
  const policy = world.appliance.getRetention(subject.name);
  const job = world.appliance.startPrune(subject.name, CALLER);
  for (const [name, states] of subject.marks) {
    if (states.some((state) => state?.pinned === false)) subject.mayBecome(name, undefined);
  }
  subject.prune = {
    jobId: job.id,
    policy,
    pinned: marks.filter((mark) => mark.pinned).map((mark) => mark.seq),
    unpinned: marks.filter((mark) => !mark.pinned).map((mark) => mark.seq),
    latestUs: world.time.nowUs(),
  };
  if (world.random.oneIn(2)) await wait(world);
}

/** Looks whether the prune of a volume has ended, and if so what it has done. */
export function attendPrune(world: World, subject: Subject): void {
  const { prune } = subject;
  if (prune === undefined || world.faulty) return;
  prune.latestUs = Math.max(prune.latestUs, world.time.nowUs());
  const job = world.appliance.getJob(prune.jobId);
  if (job.state === "running") return;
  world.note(`prune of ${subject.name}: ${job.state} ${JSON.stringify(job.result ?? job.error)}`);
  if (job.state !== "succeeded") {
    world.violate(`${subject.name}: a prune has ${job.state}: ${job.error?.detail ?? "no error"}`);
  }
  checkRetained(world, subject);
  const listed = new Set(world.appliance.listMarks(subject.name).map((found) => found.name));
  for (const [name, states] of [...subject.marks]) {
    const certain = new Set(states.map((state) => JSON.stringify(state))).size <= 2 &&
      states.includes(undefined);
    if (!certain) continue;
    const state = states.find((other) => other !== undefined);
    if (!listed.has(name) && state !== undefined && !subject.retains(state.seq)) {
      subject.becomes(name, undefined);
    }
  }
}

async function openPast(world: World, subject: Subject): Promise<void> {
  if (world.connections.length >= CONNECTIONS_MAX) return dropConnection(world);
  const { lastSeq } = subject.model;
  const seq = world.random.below(lastSeq + 1);
  const wasCopying = world.isCopying(subject);
  const opened = await world.connect(subject, seq);
  if (typeof opened !== "string") {
    if (world.isCopying(subject)) {
      world.violate(`${subject.name}: the past is open, but it is not copied yet`);
    }
    // It may have ended meanwhile.
    attendGaps(world, subject);
    if (subject.isGap(seq)) world.violate(`${subject.name}: sequence ${seq} lies in a gap, and it is open`);
    return;
  }
  attendGaps(world, subject);
  if (wasCopying) return;
  if (subject.retains(seq) && subject.prune === undefined && !world.faulty) {
    world.violate(`${subject.name}: sequence ${seq} is kept, but it is refused: ${opened}`);
  }
}

function readPast(world: World): void {
  const past = world.connections.filter((connection) =>
    connection.seq !== undefined && connection.client.isOpen
  );
  const connection = past[world.random.below(Math.max(1, past.length))];
  if (connection === undefined) return;
  const sizeBytes = connection.subject.model.sizeAt(connection.seq ?? 0);
  for (let count = 1 + world.random.below(4); count > 0; count--) {
    const offset = Math.min(sizeBytes - 1, placeOf(world, connection.subject, 1));
    const length = 1 + world.random.below(Math.min(sizeBytes - offset, 300_000));
    connection.client.request({ change: { kind: "read", offset, length } });
  }
}

async function lookAtMoment(world: World, subject: Subject): Promise<void> {
  if (world.faulty || subject.prune !== undefined) return;
  const seqs = subject.retainedSeqs();
  await checkMoment(world, subject, seqs[world.random.below(seqs.length)] ?? 0, "a kept moment");
}

function passTime(world: World): void {
  const { random } = world;
  const us = random.below(random.pick([SECOND_US, 10 * SECOND_US, 600 * SECOND_US, 20_000 * SECOND_US]));
  world.time.stepWall(random.oneIn(6) ? -Math.min(us, 60 * SECOND_US) : us);
}

/** Lets the engine come to rest, or nearly so. */
async function wait(world: World): Promise<void> {
  for (let count = world.random.below(60); count > 0; count--) if (!await world.turn()) return;
}

async function flipBit(world: World, subject: Subject): Promise<void> {
  if (world.faulty || subject.prune !== undefined || world.isCopying(subject)) return;
  const seqs = subject.retainedSeqs();
  await checkFlipped(world, subject, seqs[world.random.below(seqs.length)] ?? 0);
}

async function scrub(world: World, subject: Subject): Promise<void> {
  if (!world.faulty) await checkSound(world, subject);
}

async function scrubDamage(world: World, subject: Subject): Promise<void> {
  if (world.faulty || subject.prune !== undefined || world.isCopying(subject)) return;
  await checkDamage(world, subject);
}

/** Hosts write to an adopted disk at once. */
async function adopt(world: World): Promise<void> {
  const subject = await adoptDisk(world);
  if (subject === undefined) return;
  for (let count = world.random.below(4); count > 0; count--) await writes(world, subject);
}

/** Leaves little space, or gives it back. */
function fillDisk(world: World): void {
  const { disk, random } = world;
  if (world.faulty && random.oneIn(2)) disk.capacityBytes = Infinity;
  else {
    world.faulty = true;
    for (const subject of world.subjects) subject.mayThin = true;
    disk.capacityBytes = disk.usedBytes() + random.below(random.pick([8192, 1 << 20, 12 << 20]));
  }
}

/** Hosts may write past the history, and have to: there is no space, until some later step gives it back. */
async function writePast(world: World, subject: Subject): Promise<void> {
  const { appliance, disk, random } = world;
  if (subject.policies.length > 1 || world.isCopying(subject)) return;
  const policy = appliance.getRetention(subject.name);
  if (policy.onFull !== "passthrough") {
    const changed: RetentionPolicy = { ...policy, onFull: "passthrough" };
    subject.policies.push(JSON.stringify(changed));
    await world.until("set the policy", appliance.setRetention(subject.name, changed, CALLER));
    subject.policies = [JSON.stringify(changed)];
  }
  world.faulty = true;
  for (const other of world.subjects) other.mayThin = true;
  disk.capacityBytes = disk.usedBytes() + random.below(random.pick([4096, 1 << 20]));
  for (let tries = 0; tries < 30 && !subject.isInGap; tries++) {
    await (random.oneIn(3) ? largeWrite : writes)(world, subject);
    for (let turns = random.below(10); turns > 0; turns--) await world.turn();
    attendGaps(world, subject);
  }
  // A sync that fails now leaves in doubt what nothing but the primary has.
  if (random.oneIn(3)) disk.fail({ kind: "sync", matches: (place) => place.endsWith(".img") });
  for (let count = random.below(4); count > 0; count--) {
    await flush(world, subject);
    for (let turns = random.below(10); turns > 0; turns--) await world.turn();
  }
}

async function deleteVolume(world: World, subject: Subject): Promise<void> {
  if (
    world.subjects.filter((other) => other.state === "there").length === 1 || world.faulty ||
    subject.prune !== undefined
  ) return;
  for (const connection of world.connections) if (connection.subject === subject) connection.client.drop();
  world.connections = world.connections.filter((connection) => connection.subject !== subject);
  await settle();
  while (world.appliance.getVolume(subject.name).counts.connections > 0) {
    if (!await world.turn()) world.violate(`${subject.name}: a connection does not end`);
  }
  if (subject.marks.size !== subject.certainMarks().length || subject.policies.length > 1) return;
  subject.state = "leaving";
  await world.until(
    `delete volume ${subject.name}`,
    world.appliance.deleteVolume(subject.name, { purge: world.random.oneIn(2) }, CALLER),
  );
  subject.reset();
}

function failOperation(world: World): void {
  world.faulty = true;
  orderFault(world);
}

/** Makes some of the next operations of some kind fail. */
export function orderFault(world: World): void {
  const { random } = world;
  const part = random.pick([".seg", "primary.img", ".sqlite", ""]);
  world.disk.fail({
    kind: part === ".sqlite" ? "commit" : random.pick(["read", "write", "sync"]),
    matches: (place) => place.includes(part),
    code: random.oneIn(3) ? "no-space" : "io",
    after: random.below(10),
    times: 1 + random.below(3),
  });
}

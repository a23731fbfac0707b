/** What is checked after each restart: every promise that was made before. */
import { DatabaseSync } from "node:sqlite";
import type { BlockDevice } from "../../src/base/block_device.ts";
import { BLOCK_BYTES } from "../../src/base/block_device.ts";
import { ZERO_BLOCK } from "../../src/base/bytes.ts";
import { VarveError } from "../../src/base/errors.ts";
import { formatTime, parseRfc3339 } from "../../src/base/time.ts";
import { parseDuration } from "../../src/base/units.ts";
import { attendGaps, forgetUntold, noteOwnCommands, settleRestarted } from "./gaps.ts";
import { NOW } from "./model.ts";
import { attendResize } from "./resizes.ts";
import type { Retained, StartedPrune, Subject } from "./subject.ts";
import { DATA_PATH, type World } from "./world.ts";

const CHUNK_BYTES = 1 << 20;
/** Volumes up to this size are always read from end to end. */
const SMALL_BYTES = 2 << 20;

/** Checks the promises about a volume, and takes over what is left of its history. Throws a violation. */
export async function checkSubject(world: World, subject: Subject): Promise<void> {
  const { appliance } = world;
  const row = appliance.listVolumes().find((volume) => volume.name === subject.name);
  if (row === undefined) {
    if (subject.state === "there") {
      world.violate(`volume ${subject.name} is gone, although its creation was answered`);
    }
    subject.reset();
    return;
  }
  const info = appliance.getVolume(subject.name);
  const isCopying = info.state === "baseline" && subject.adoptedPath !== undefined && !subject.isCopied;
  if (info.state !== "ready" && !isCopying) {
    world.violate(`volume ${subject.name} is ${info.state} after a restart: ${info.error ?? "no error"}`);
  }
  if (subject.state === "asked") becomeThere(world, subject);
  if (info.id !== subject.id) world.violate(`volume ${subject.name} is another one: ${info.id}`);
  subject.state = "there";
  const live = await world.live(subject);
  attendGaps(world, subject, { restarted: true });
  await attendResize(world, subject);
  if (info.sizeBytes !== subject.sizeBytes) {
    world.violate(`volume ${subject.name} has ${info.sizeBytes} bytes, not ${subject.sizeBytes}`);
  }
  adoptEnd(world, subject, live.lastSeq, live.lastTimeUs);
  checkRetained(world, subject);
  settleRestarted(world, subject, live.lastSeq);
  checkPrimary(world, subject);
  const { lastSeq } = subject.model;
  if (!subject.isInGap) await checkMoment(world, subject, lastSeq, "the newest moment");
  await checkGaps(world, subject);
  await checkMarks(world, subject);
  const seqs = subject.retainedSeqs();
  for (let count = 0; count < 3; count++) {
    const seq = seqs[world.random.below(seqs.length)] ?? lastSeq;
    await checkMoment(world, subject, seq, "a kept moment");
    await checkTime(world, subject, seq);
  }
  subject.mayThin = false;
  if (subject.retained.horizon > 0) {
    await checkDropped(world, subject, world.random.below(subject.retained.horizon));
  }
}

/** Somebody who has the data folder has a token that opens the appliance. */
export function checkFirstToken(world: World): void {
  const file = world.disk.open(`${DATA_PATH}/admin.token`);
  const bytes = new Uint8Array(file.sizeBytes());
  file.read(0, bytes);
  if (world.appliance.authenticate(new TextDecoder().decode(bytes).trim()) === undefined) {
    world.violate("the token in admin.token opens nothing");
  }
}

/** A volume that was deleted, or that nobody has asked for, is not there. */
export function checkNoOther(world: World): void {
  for (const { name, id } of world.appliance.listVolumes()) {
    const subject = world.subjects.find((subject) => subject.name === name && subject.state !== "unasked");
    if (subject === undefined) world.violate(`volume ${name}, ${id}, is there, although it was deleted`);
  }
}

/** A volume is known to exist from now on. */
export function becomeThere(world: World, subject: Subject): void {
  const { id, createdAt } = world.appliance.getVolume(subject.name);
  subject.state = "there";
  subject.id = id;
  subject.model.timesUs[0] = parseRfc3339(createdAt) ?? 0;
  subject.policies = [JSON.stringify(world.appliance.getRetention(subject.name))];
}

/** History ends somewhere between what was promised and what was sent. */
function adoptEnd(world: World, subject: Subject, lastSeq: number, lastTimeUs: number): void {
  const { model } = subject;
  world.note(`${subject.name} ends at ${lastSeq} of ${model.lastSeq}, durable ${subject.durableSeq}`);
  if (lastSeq < subject.durableSeq) {
    world.violate(
      `${subject.name}: history ends at sequence ${lastSeq}, but ${subject.durableSeq} was acknowledged as durable`,
    );
  }
  if (lastSeq < subject.answeredSeq) {
    world.violate(
      `${subject.name}: history ends at sequence ${lastSeq}, but ${subject.answeredSeq} was acknowledged ` +
        "and the power was not cut",
    );
  }
  if (lastSeq === model.lastSeq + 1 && subject.uncertain !== undefined && !subject.isGap(lastSeq)) {
    model.apply(subject.uncertain, lastTimeUs);
  } else if (subject.uncertain !== undefined) model.pass(subject.uncertain);
  noteOwnCommands(world, subject, lastSeq);
  model.truncate(lastSeq);
  forgetUntold(world, subject);
  subject.uncertain = undefined;
  // What a start has shown stays.
  subject.durableSeq = lastSeq;
  subject.answeredSeq = lastSeq;
}

/** The raw bytes of the primary are those of the newest moment. */
function checkPrimary(world: World, subject: Subject): void {
  const { model } = subject;
  const place = world.appliance.getVolume(subject.name).primary.path;
  const pages = world.disk.pagesOf(place);
  for (const page of new Set([...pages.keys(), ...model.usedBlocks])) {
    const start = page * BLOCK_BYTES;
    if (start >= subject.sizeBytes) continue;
    const length = Math.min(BLOCK_BYTES, subject.sizeBytes - start);
    const found = (pages.get(page) ?? ZERO_BLOCK).subarray(0, length);
    const difference = model.difference(found, start, NOW);
    if (difference !== undefined) {
      world.violate(`${subject.name}: the primary is not the newest state: ${difference}`);
    }
  }
}

/** A moment opens and holds what it must, or is refused although it is kept, which is a violation. */
export async function checkMoment(world: World, subject: Subject, seq: number, what: string): Promise<void> {
  let device: BlockDevice | undefined;
  const wasCopying = world.isCopying(subject);
  try {
    device = await openMoment(world, subject, seq);
  } catch (thrown) {
    world.checkLife();
    if (!(thrown instanceof VarveError)) throw thrown;
    if (wasCopying && thrown.code === "conflict") return;
    world.violate(`${subject.name}: ${what}, sequence ${seq}, is refused: ${thrown.message}`);
  }
  if (device === undefined) world.violate(`${subject.name}: ${what}, sequence ${seq}, has no export`);
  if (world.isCopying(subject)) world.violate(`${subject.name}: ${what} is open, but it is not copied yet`);
  const sizeBytes = subject.model.sizeAt(seq);
  if (device.sizeBytes !== sizeBytes) {
    world.violate(
      `${subject.name}: ${what}, sequence ${seq}, has ${device.sizeBytes} bytes, not ${sizeBytes}`,
    );
  }
  for (const [offset, length] of rangesToRead(world, subject, sizeBytes)) {
    const target = new Uint8Array(length);
    try {
      device.read(offset, target);
    } catch (thrown) {
      world.checkLife();
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      world.violate(`${subject.name}: ${what}, sequence ${seq}, cannot be read at ${offset}: ${message}`);
    }
    const difference = subject.model.difference(target, offset, seq);
    if (difference !== undefined) world.violate(`${subject.name}: ${what} is wrong: ${difference}`);
  }
}

/** The device of a moment, or `undefined` when there is no such export. */
export async function openMoment(
  world: World,
  subject: Subject,
  seq: number,
): Promise<BlockDevice | undefined> {
  const opened = await world.until(
    `open ${subject.name} at sequence ${seq}`,
    world.appliance.nbdExports.open(`${subject.name}@seq:${seq}`, { peer: "" }),
  );
  await opened?.close();
  return opened?.device;
}

/** Reads a moment while one bit of one segment is flipped: what is read is right, or it is an error. */
export async function checkFlipped(world: World, subject: Subject, seq: number): Promise<void> {
  const { random, disk } = world;
  const folder = `${DATA_PATH}/volumes/${subject.id}/segments`;
  const device = await openMoment(world, subject, seq);
  const segments = disk.list(folder);
  const place = `${folder}/${segments[random.below(Math.max(1, segments.length))]}`;
  const sizeBytes = disk.stat(place)?.sizeBytes ?? 0;
  if (device === undefined || sizeBytes === 0) return;
  const at = random.below(sizeBytes);
  const bit = random.below(8);
  disk.flipBit(place, at, bit);
  try {
    for (const [offset, length] of rangesToRead(world, subject, device.sizeBytes)) {
      const target = new Uint8Array(length);
      try {
        device.read(offset, target);
      } catch (thrown) {
        if (thrown instanceof VarveError && thrown.code === "damaged") continue;
        throw thrown;
      }
      const difference = subject.model.difference(target, offset, seq);
      if (difference !== undefined) {
        world.violate(`${subject.name}: bit ${bit} of byte ${at} of ${place} was flipped: ${difference}`);
      }
    }
  } finally {
    disk.flipBit(place, at, bit);
  }
}

/** All of a small volume; of a large one every block that was ever written, and some others. */
function* rangesToRead(
  world: World,
  { model }: Subject,
  sizeBytes: number,
): Generator<[offset: number, length: number]> {
  if (sizeBytes <= SMALL_BYTES) {
    for (let offset = 0; offset < sizeBytes; offset += CHUNK_BYTES) {
      yield [offset, Math.min(CHUNK_BYTES, sizeBytes - offset)];
    }
    return;
  }
  let from = -1;
  let end = -1;
  for (const block of model.usedBlocks) {
    if (block * BLOCK_BYTES >= sizeBytes) break;
    if (block === end && (end - from) * BLOCK_BYTES < CHUNK_BYTES) {
      end++;
      continue;
    }
    if (from >= 0) yield runOf(from, end, sizeBytes);
    from = block;
    end = block + 1;
  }
  if (from >= 0) yield runOf(from, end, sizeBytes);
  for (let count = 0; count < 2; count++) {
    const offset = world.random.below(sizeBytes);
    yield [offset, Math.min(sizeBytes - offset, 1 + world.random.below(CHUNK_BYTES))];
  }
}

function runOf(from: number, end: number, sizeBytes: number): [offset: number, length: number] {
  return [from * BLOCK_BYTES, Math.min(sizeBytes, end * BLOCK_BYTES) - from * BLOCK_BYTES];
}

/** A moment that is gone is refused. */
async function checkDropped(world: World, subject: Subject, seq: number): Promise<void> {
  if (subject.retains(seq)) return;
  try {
    await openMoment(world, subject, seq);
  } catch (thrown) {
    world.checkLife();
    if (thrown instanceof VarveError && thrown.code === "not-retained") return;
    throw thrown;
  }
  world.violate(`${subject.name}: sequence ${seq} does not exist, but it can be opened`);
}

/** Nothing between the ends of a gap can be opened. */
async function checkGaps(world: World, subject: Subject): Promise<void> {
  if (world.isCopying(subject)) return;
  for (const { fromSeq, toSeq = subject.model.lastSeq + 1 } of subject.gaps.slice(-2)) {
    if (toSeq - fromSeq > 1) {
      await checkDropped(world, subject, fromSeq + 1 + world.random.below(toSeq - fromSeq - 1));
    }
  }
}

/** A time names the newest moment at or before it. */
async function checkTime(world: World, subject: Subject, seq: number): Promise<void> {
  const time = formatTime(subject.model.timesUs[seq] ?? 0, 6);
  if ((subject.model.timesUs[seq] ?? 0) > world.time.nowUs()) return;
  const moment = await world.until(`resolve ${time}`, world.appliance.resolve(subject.name, time));
  if (moment.seq !== seq) {
    world.violate(
      `${subject.name}: ${time} is the time of sequence ${seq}, but it resolves to ${moment.seq}`,
    );
  }
}

/** Marks are as they were acknowledged; those that are there open and are exact. */
async function checkMarks(world: World, subject: Subject): Promise<void> {
  const found = new Map(world.appliance.listMarks(subject.name).map((mark) => [mark.name, mark]));
  for (const [name, states] of subject.marks) {
    const mark = found.get(name);
    const thinned = mark === undefined && subject.mayThin && states.some((state) => state?.pinned === false);
    const fits = thinned ||
      states.some((state) => state?.seq === mark?.seq && state?.pinned === mark?.pinned);
    if (!fits) {
      const wanted = states.map((state) =>
        state === undefined ? "none" : `${state.seq}, pinned ${state.pinned}`
      );
      world.violate(
        `${subject.name}: mark ${name} is ${
          mark === undefined ? "gone" : `at ${mark.seq}, pinned ${mark.pinned}`
        }; ` +
          `it must be: ${wanted.join(" or ")}`,
      );
    }
    subject.becomes(name, mark === undefined ? undefined : { seq: mark.seq, pinned: mark.pinned });
    found.delete(name);
  }
  for (const [name, mark] of found) {
    world.violate(`${subject.name}: there is a mark ${name} at ${mark.seq} that must not be there`);
  }
  const policy = JSON.stringify(world.appliance.getRetention(subject.name));
  if (!subject.policies.includes(policy)) {
    world.violate(`${subject.name}: the policy is ${policy}, it must be ${subject.policies.join(" or ")}`);
  }
  subject.policies = [policy];
  const marks = subject.certainMarks();
  for (const { name, seq } of marks) {
    if (!subject.retains(seq)) {
      world.violate(`${subject.name}: mark ${name} names sequence ${seq}, which is gone`);
    }
  }
  for (let count = Math.min(3, marks.length); count > 0; count--) {
    const mark = marks[world.random.below(marks.length)];
    if (mark !== undefined) await checkMoment(world, subject, mark.seq, `mark ${mark.name}`);
  }
}

/** Which moments the engine keeps, read from the recovery map. */
function retainedOf(world: World, subject: Subject): Retained {
  const scratch = world.disk.scratchPath(`${DATA_PATH}/volumes/${subject.id}/map.sqlite`);
  if (scratch === undefined) world.violate(`${subject.name}: there is no recovery map`);
  const database = new DatabaseSync(scratch, { readOnly: true });
  try {
    const horizon = database.prepare("SELECT value FROM state WHERE name = 'horizon_seq'").get()?.["value"];
    const kept = database.prepare("SELECT seq FROM kept").all().map((row) => Number(row["seq"]));
    return { horizon: Number(horizon ?? 0), kept: new Set(kept) };
  } finally {
    database.close();
  }
}

/** Moments are dropped by a prune alone, and only those that the policy does not keep. */
export function checkRetained(world: World, subject: Subject): void {
  const before = subject.retainedSeqs();
  const after = retainedOf(world, subject);
  const { prune } = subject;
  subject.prune = undefined;
  subject.retained = after;
  const lost = before.filter((seq) => !subject.retains(seq));
  const returned = subject.retainedSeqs().length - (before.length - lost.length);
  if (returned !== 0) world.violate(`${subject.name}: ${returned} moments that were dropped are there again`);
  if (lost.length === 0) return;
  if (subject.mayThin) {
    for (const { name, seq, pinned } of subject.certainMarks()) {
      if (pinned && !subject.retains(seq)) {
        world.violate(`${subject.name}: the moment of the pinned mark ${name} is gone`);
      }
    }
    return;
  }
  if (prune === undefined) {
    world.violate(`${subject.name}: ${lost.length} moments are gone without a prune, ${lost[0]} the first`);
  }
  checkThinning(world, subject, prune, before, lost);
}

function checkThinning(
  world: World,
  subject: Subject,
  prune: StartedPrune,
  before: readonly number[],
  lost: readonly number[],
): void {
  const { timesUs } = subject.model;
  const timeOf = (seq: number) => timesUs[seq] ?? 0;
  const horizonUs = prune.latestUs - parseDuration(prune.policy.continuous) * 1000;
  const tiers = prune.policy.tiers.map(({ every, for: span }) => ({
    everyUs: parseDuration(every) * 1000,
    fromUs: prune.latestUs - parseDuration(span) * 1000,
  }));
  const longestUs = Math.min(horizonUs, ...tiers.map((tier) => tier.fromUs));
  const complain = (seq: number, why: string) =>
    world.violate(
      `${subject.name}: a prune at ${formatTime(prune.latestUs)} dropped sequence ${seq} of ` +
        `${formatTime(timeOf(seq))}: ${why} (${JSON.stringify(prune.policy)})`,
    );
  const current = before.findLast((seq) => timeOf(seq) <= horizonUs);
  const lostSeqs = new Set(lost);
  for (const seq of lost) {
    if (timeOf(seq) > horizonUs) complain(seq, "it is younger than the continuous span");
    if (seq === current) complain(seq, "it was current at the end of the continuous span");
  }
  for (const seq of prune.pinned) if (lostSeqs.has(seq)) complain(seq, "a pinned mark names it");
  for (const seq of prune.unpinned) {
    if (lostSeqs.has(seq) && timeOf(seq) >= longestUs) {
      complain(seq, "a mark within the longest span names it");
    }
  }
  for (const { everyUs, fromUs } of tiers) {
    const bucketOf = (seq: number) => Math.floor(timeOf(seq) / everyUs);
    const filled = new Set(before.filter((seq) => !lostSeqs.has(seq)).map(bucketOf));
    for (const seq of lost) {
      if (bucketOf(seq) * everyUs >= fromUs && !filled.has(bucketOf(seq))) {
        complain(seq, `nothing is left of its interval of ${everyUs} µs`);
      }
    }
  }
}

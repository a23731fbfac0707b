/** Gaps of the history: what the engine does past its journal while space is short, and what is left of that. */
import type { LiveVolume } from "../../src/volume/live_volume.ts";
import { parseRfc3339 } from "../../src/base/time.ts";
import { VarveError } from "../../src/base/errors.ts";
import { BLOCK_BYTES } from "../../src/base/block_device.ts";
import type { Change } from "./model.ts";
import type { Subject, SubjectGap } from "./subject.ts";
import type { World } from "./world.ts";

/**
 * Takes over which gaps there are, as the engine tells it. Of those behind which no kept moment lies it tells no more. On
 * failing storage it tells of a beginning and an end that may not be durable yet: after a restart they may be gone.
 */
export function attendGaps(world: World, subject: Subject, { restarted = false } = {}): void {
  const { gaps: infos, window } = world.appliance.getVolume(subject.name);
  const { model, gaps: before } = subject;
  const isEndDurable = restarted || !world.faulty;
  const told = infos.map(({ from, to }): SubjectGap => ({ fromSeq: from.seq, toSeq: to?.seq, isEndDurable }));
  const former = before.filter(({ fromSeq }) => told.every((gap) => gap.fromSeq !== fromSeq)).flatMap(
    (gap) => {
      if (gap.fromSeq < window.from.seq) {
        return [{ ...gap, toSeq: gap.toSeq ?? window.from.seq, isEndDurable }];
      }
      if (gap.toSeq !== undefined || !restarted) {
        world.violate(
          `${subject.name}: the gap after ${gap.fromSeq} is told of no more, and moments before it are`,
        );
      }
      return [];
    },
  );
  subject.gaps = [...former, ...told];
  for (const { fromSeq, toSeq } of told) {
    const known = before.find((gap) => gap.fromSeq === fromSeq);
    if (known === undefined) {
      subject.gapsSeen++;
      world.note(`  a gap begins after ${fromSeq}`);
      continue;
    }
    const mayReopen = restarted && !known.isEndDurable && toSeq === undefined;
    if (known.toSeq !== undefined && known.toSeq !== toSeq && !mayReopen) {
      world.violate(`${subject.name}: the gap after ${fromSeq} ended at ${known.toSeq}, and now at ${toSeq}`);
    }
  }
  for (const { seq, time } of [window.from, ...infos.flatMap(({ to }) => to ?? [])]) {
    if (subject.gaps.every((gap) => gap.toSeq !== seq)) continue;
    if (before.some((gap) => gap.toSeq === seq && gap.isEndDurable)) continue;
    if (before.every((gap) => gap.toSeq !== seq)) world.note(`  a gap has ended at ${seq}`);
    model.skipTo(seq);
    model.timesUs[seq] = parseRfc3339(time) ?? 0;
    if (!isEndDurable) continue;
    subject.durableSeq = Math.max(subject.durableSeq, seq);
    subject.answeredSeq = Math.max(subject.answeredSeq, seq);
  }
}

/** After a restart: where no gap is told of, nothing went past the journal since the newest command. */
export function forgetUntold(world: World, subject: Subject): void {
  if (subject.isInGap) return;
  const lost = subject.model.dropPassed();
  if (lost > 0 && lost <= Math.max(subject.durableOrder, subject.answeredOrder)) {
    world.violate(`${subject.name}: a change past the journal was acknowledged, and no gap is told of`);
  }
}

/** The engine captures commands of its own within a gap, and only there: they take sequences that no host knows of. */
export function noteOwnCommands(world: World, subject: Subject, lastSeq: number): void {
  const { model } = subject;
  if (lastSeq <= model.lastSeq) return;
  attendGaps(world, subject);
  for (let seq = model.lastSeq + 1; seq <= lastSeq; seq++) {
    if (!subject.isGap(seq) && !subject.gaps.some((gap) => gap.toSeq === seq)) {
      world.violate(`${subject.name}: sequence ${seq} was captured, no host sent it, and it lies in no gap`);
    }
  }
  model.skipTo(lastSeq);
}

/** A host's change was taken and not captured: it went past the journal, or waits until it may. */
export function notePassed(world: World, subject: Subject, live: LiveVolume, change: Change): void {
  const { model } = subject;
  const before = model.order;
  model.pass(change);
  const held = live.held();
  if (held === undefined || subject.heldFrom !== undefined) return;
  const { life } = world;
  subject.heldFrom = before;
  held.then(() => subject.heldFrom = undefined, () => {
    subject.heldFrom = undefined;
    if (life === world.life && world.disk.powered) settleLive(world, subject, live, before);
  });
}

/**
 * Changes after `order` were refused: a part of them may have happened. What the live device shows is taken over; what it
 * cannot show now, because its journal has failed, stays in doubt.
 */
export function settleLive(world: World, subject: Subject, live: LiveVolume, order: number): void {
  const from = Math.min(order, subject.doubtFrom ?? Infinity);
  subject.doubtFrom = undefined;
  const read = (block: number): Uint8Array | undefined => {
    const start = block * BLOCK_BYTES;
    if (start >= subject.sizeBytes) return undefined;
    const target = new Uint8Array(Math.min(BLOCK_BYTES, subject.sizeBytes - start));
    try {
      live.read(start, target);
      return target;
    } catch (thrown) {
      if (!(thrown instanceof VarveError)) throw thrown;
      subject.doubtFrom = from;
      return undefined;
    }
  };
  const wrong = world.disk.withoutFaults(() =>
    subject.model.settle((version) => version.order <= from || Number.isInteger(version.seq), read, {
      areLeftovers: true,
    })
  );
  if (wrong !== undefined) world.noteViolation(`${subject.name}: after a refusal ${wrong}`, world.life);
}

/** After a restart: finds out what has become of changes that went past the journal and were not promised. */
export function settleRestarted(world: World, subject: Subject, lastSeq: number): void {
  const { model } = subject;
  const promised = Math.max(subject.durableOrder, subject.answeredOrder);
  const ended = subject.gaps.reduce((newest, { toSeq = 0 }) => Math.max(newest, toSeq), 0);
  const pages = world.disk.pagesOf(world.appliance.getVolume(subject.name).primary.path);
  const wrong = model.settle(
    ({ seq, order, isLeftover }) =>
      seq < ended || (!isLeftover && (order <= promised || (Number.isInteger(seq) && seq <= lastSeq))),
    (block) => {
      const bytes = Math.min(BLOCK_BYTES, subject.sizeBytes - block * BLOCK_BYTES);
      return bytes > 0 ? (pages.get(block) ?? new Uint8Array(BLOCK_BYTES)).subarray(0, bytes) : undefined;
    },
  );
  if (wrong !== undefined) world.violate(`${subject.name}: after the restart ${wrong}`);
  subject.doubtFrom = undefined;
  subject.durableOrder = model.order;
  subject.answeredOrder = model.order;
}

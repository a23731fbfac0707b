/** Scrubs: sound storage has no damage, and what they name as damaged is what cannot be read. */
import { DatabaseSync } from "node:sqlite";
import { VarveError } from "../../src/base/errors.ts";
import type { ScrubResult } from "../../src/engine.ts";
import { segmentFileName } from "../../src/journal/mod.ts";
import { openPastView } from "../../src/timeline/past.ts";
import type { Subject } from "./subject.ts";
import { CALLER, DATA_PATH, type World } from "./world.ts";

const PIECE_BYTES = 1 << 20;

/** Scrubs a volume to the end while its hosts go on. */
async function runScrub(world: World, subject: Subject): Promise<ScrubResult> {
  const { appliance } = world;
  const { id } = appliance.startScrub(subject.name, {}, CALLER);
  for (let job = appliance.getJob(id); job.state !== "succeeded"; job = appliance.getJob(id)) {
    if (job.state !== "running" && job.state !== "queued") {
      world.violate(`${subject.name}: a scrub has ${job.state}: ${job.error?.detail ?? "no error"}`);
    }
    if (!await world.turn()) world.violate(`${subject.name}: a scrub does not end`);
  }
  const result = appliance.lastScrub(subject.name);
  world.note(
    `  scrub: ${result.damagedPlaces} places, sequences ${JSON.stringify(result.damagedSeqs.slice(0, 6))}`,
  );
  return result;
}

/** A scrub of sound storage finds nothing. */
export async function checkSound(world: World, subject: Subject): Promise<void> {
  const { damagedPlaces, damagedSeqs, places: [first] } = await runScrub(world, subject);
  if (damagedPlaces === 0 && damagedSeqs.length === 0) return;
  world.violate(`${subject.name}: a scrub has found damage where there is none: ${JSON.stringify(first)}`);
}

/** One bit of a finished segment is flipped: a scrub finds it, and names those moments that cannot be read. */
export async function checkDamage(world: World, subject: Subject): Promise<void> {
  const { random, disk } = world;
  // Reads of theirs may fail while the bit is flipped.
  for (const { client, seq } of world.connections) if (seq !== undefined) client.drop();
  world.connections = world.connections.filter(({ seq }) => seq === undefined);
  const segments = finishedSegments(world, subject);
  await checkSound(world, subject);
  const segment = segments[random.below(Math.max(1, segments.length))];
  if (segment === undefined) return;
  const place = `${DATA_PATH}/volumes/${subject.id}/segments/${segmentFileName(segment)}`;
  const at = random.below(disk.stat(place)?.sizeBytes ?? 0);
  const bit = random.below(8);
  const what = `bit ${bit} of byte ${at} of ${place} is flipped`;
  world.note(`  ${what}`);
  const { lastSeq } = subject.model;
  disk.flipBit(place, at, bit);
  try {
    const result = await runScrub(world, subject);
    if (result.damagedPlaces === 0) world.violate(`${subject.name}: ${what}, and a scrub has not found it`);
    for (const seq of seqsAround(world, subject, result.damagedSeqs)) {
      if (seq > lastSeq || !subject.retains(seq)) continue;
      const named = result.damagedSeqs.some(({ fromSeq, toSeq }) => fromSeq <= seq && seq <= toSeq);
      const readable = await isReadable(world, subject, seq, what);
      if (readable === named && !(named && result.spansJoined)) {
        world.violate(
          `${subject.name}: ${what}, sequence ${seq} can${readable ? "" : "not"} be read, ` +
            `but a scrub says that these cannot: ${JSON.stringify(result.damagedSeqs.slice(0, 6))}`,
        );
      }
    }
  } finally {
    disk.flipBit(place, at, bit);
  }
}

/** Segments that nobody works on any more: they are in the form in which they stay. */
function finishedSegments(world: World, subject: Subject): number[] {
  const scratch = world.disk.scratchPath(`${DATA_PATH}/volumes/${subject.id}/map.sqlite`);
  if (scratch === undefined) world.violate(`${subject.name}: there is no recovery map`);
  const database = new DatabaseSync(scratch, { readOnly: true });
  try {
    return database.prepare(
      "SELECT segment FROM segments WHERE stored_bytes IS NOT NULL AND retired = 0 ORDER BY segment",
    ).all().map((row) => Number(row["segment"]));
  } finally {
    database.close();
  }
}

function seqsAround(world: World, subject: Subject, spans: ScrubResult["damagedSeqs"]): Set<number> {
  const { random } = world;
  const retained = subject.retainedSeqs();
  const seqs = new Set([0, 1].map(() => retained[random.below(retained.length)] ?? 0));
  const span = spans[random.below(Math.max(1, spans.length))];
  if (span === undefined) return seqs;
  const { fromSeq, toSeq } = span;
  const within = retained.filter((seq) => fromSeq <= seq && seq <= toSeq);
  for (const seq of [within[0], within[random.below(Math.max(1, within.length))], within.at(-1)]) {
    if (seq !== undefined) seqs.add(seq);
  }
  return new Set([...seqs, ...[fromSeq - 1, toSeq + 1].filter((seq) => seq >= 0)]);
}

/** Whether all of a moment can be read with nothing in memory from before; what is read is right. */
async function isReadable(world: World, subject: Subject, seq: number, what: string): Promise<boolean> {
  const place = await world.until(
    `find ${subject.name} at sequence ${seq}`,
    world.appliance.locatePast(subject.name, seq),
  );
  const view = openPastView(place, seq, { disk: world.disk });
  let readable = true;
  try {
    // The edges of a hole may be blocks that no host ever wrote.
    const { sizeBytes } = view.device;
    for (let offset = 0; offset < sizeBytes; offset += PIECE_BYTES) {
      const target = new Uint8Array(Math.min(PIECE_BYTES, sizeBytes - offset));
      try {
        view.device.read(offset, target);
      } catch (thrown) {
        if (!(thrown instanceof VarveError) || thrown.code !== "damaged") throw thrown;
        readable = false;
        continue;
      }
      const difference = subject.model.difference(target, offset, seq);
      if (difference !== undefined) world.violate(`${subject.name}: ${what}: ${difference}`);
    }
  } finally {
    view.close();
  }
  return readable;
}

/** Adopted disks: how one comes to be, and what holds while and after its first copy is made. */
import { becomeThere, checkMoment } from "./checks.ts";
import { noiseAt } from "./model.ts";
import { Subject } from "./subject.ts";
import { CALLER, OTHER_FILE_SYSTEM, type World } from "./world.ts";

const DISKS_PATH = `/${OTHER_FILE_SYSTEM}`;
const SIZES: readonly [number, ...number[]] = [40 * 4096 + 1234, 1 << 20, (5 << 20) + 512, 40 << 20];

/** Adopts a disk that holds something; there is one at a time. Returns it, or `undefined` when there is one. */
export async function adoptDisk(world: World): Promise<Subject | undefined> {
  const { random, subjects } = world;
  const former = subjects.findIndex((subject) => subject.adoptedPath !== undefined);
  if (world.faulty || (former >= 0 && subjects[former]?.state !== "unasked")) return undefined;
  if (former >= 0) subjects.splice(former, 1);
  const place = `${DISKS_PATH}/${world.disk.operations}.img`;
  const subject = new Subject("gamma", random.pick(SIZES), place);
  await putContent(world, subject, place);
  subjects.push(subject);
  subject.state = "asked";
  await world.until(
    `adopt ${place}`,
    world.appliance.createVolume({ name: subject.name, primary: { path: place, adopt: true } }, CALLER),
  );
  becomeThere(world, subject);
  return subject;
}

/** Sparse content, more of it where hosts write most. */
async function putContent(world: World, { sizeBytes, model }: Subject, place: string): Promise<void> {
  const { random, disk } = world;
  disk.makeDirectory(DISKS_PATH);
  const file = disk.open(place, { mode: "create-new" });
  file.truncate(sizeBytes);
  for (let count = random.below(24); count > 0; count--) {
    const within = random.oneIn(3) ? Math.min(sizeBytes, 64 * 4096) : sizeBytes;
    const offset = Math.floor(random.below(within) / 512) * 512;
    const length = Math.min(sizeBytes - offset, 1 + random.below(random.pick([4096, 300_000])));
    const data = noiseAt(random.bits(), length);
    file.write(offset, data);
    model.begin(offset, data);
  }
  await world.until("sync a disk", file.sync());
  file.close();
  await world.until("sync the folder of disks", disk.syncDirectory(DISKS_PATH));
  await world.until("sync the folder above", disk.syncDirectory("/"));
}

/** What was shown as copied stays copied, and once all of it is, every moment can be opened. */
export async function attendCopy(world: World, subject: Subject): Promise<void> {
  if (subject.adoptedPath === undefined || subject.state !== "there") return;
  const { complete, doneBytes } = world.appliance.getVolume(subject.name).baseline;
  if (doneBytes < subject.copiedBytes) {
    world.violate(`${subject.name}: ${doneBytes} bytes are copied, but ${subject.copiedBytes} were before`);
  }
  subject.copiedBytes = doneBytes;
  if (!complete || subject.isCopied || world.faulty) return;
  subject.isCopied = true;
  world.note(`${subject.name}: the first copy is complete`);
  if (subject.retains(0)) await checkMoment(world, subject, 0, "the adopted disk");
  for (const { name, seq } of subject.certainMarks()) {
    await checkMoment(world, subject, seq, `mark ${name}`);
  }
}

/** A copy that nothing disturbs ends. */
export async function finishCopy(world: World, subject: Subject): Promise<void> {
  while (world.isCopying(subject)) {
    if (!await world.turn()) world.violate(`${subject.name}: its first copy does not end`);
  }
  await attendCopy(world, subject);
}

// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * `deno task demo`: the main job from end to end, on an appliance of its own in a temporary folder.
 *
 * A host writes files to a volume over NBD, with a mark now and then, and at last destroys them. Then the past is looked
 * into as directories, and the volume is recovered to a new disk. Everything that is claimed is compared by hash.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { formatSize, parseSize } from "../src/base/units.ts";
import { DemoAppliance } from "./demo_appliance.ts";
import { DemoHost, hashFile, type HostChange, runProgram } from "./demo_host.ts";
import { NbdClient } from "./nbd_client.ts";
import { ensurePackages } from "./packages.ts";

const SIZE = "256M";
const TIME_LIMIT_MS = 80_000;

const PHOTO = "/photos/lake.raw";
const LETTER = "/letters/anna.txt";
const LEDGER = "/ledger.csv";
const PLAN = "/plan.txt";

/** What the host had at a mark, to compare with: the hash of its disk, and of each file by its path. */
interface Kept {
  disk: string;
  files: Map<string, string>;
}

const startedMs = performance.now();

/** Tells a step that is done, with the time since the start. */
function tell(text: string): void {
  console.log(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(5)} s  ${text}`);
}

/** Shows what a program printed, set in. */
function show(printed: string | Uint8Array): void {
  const text = typeof printed === "string" ? printed : new TextDecoder().decode(printed);
  for (const line of text.trimEnd().split("\n")) console.log(`           ${line}`);
}

function check(holds: boolean, claim: string): void {
  if (!holds) throw new Error(`This should hold and does not: ${claim}`);
}

function hashBytes(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function ledger(lines: number): Uint8Array {
  const text = Array.from(
    { length: lines },
    (_, index) => `${index + 1};2026-11-22;${(index * 7919) % 1000},00\n`,
  );
  return new TextEncoder().encode(text.join(""));
}

/** Lets the host change its files, write them back and have the moment marked. */
async function live(
  { appliance, host, kept }: { appliance: DemoAppliance; host: DemoHost; kept: Map<string, Kept> },
  { mark, what, changes }: { mark: string; what: string; changes: HostChange[] },
): Promise<void> {
  await host.change(changes);
  await using disk = await NbdClient.connect(appliance.nbdPath, "demo");
  const writtenBytes = await host.writeBack(disk);
  tell(`The host ${what}: ${formatSize(writtenBytes)} written over NBD`);
  const files = new Map([...kept.values()].at(-1)?.files);
  for (const change of changes) {
    if ("remove" in change) files.delete(change.remove);
    if ("write" in change) files.set(change.write, hashBytes(change.content));
  }
  kept.set(mark, { disk: await host.hash(), files });
  show(await appliance.varve("mark", "demo", mark));
}

/** Compares every file of a mark with what the host had. */
async function comparePast(appliance: DemoAppliance, mark: string, kept: Kept): Promise<void> {
  const read = (path: string) =>
    appliance.mountPath === undefined
      ? appliance.varve("cat", "demo", path, "--at", `mark:${mark}`)
      : Deno.readFile(`${appliance.mountPath}/demo/marks/${mark}${path}`);
  for (const [path, hash] of kept.files) {
    check(hashBytes(await read(path)) === hash, `${path} at ${mark} has the SHA-256 that it had then`);
  }
  tell(`All ${kept.files.size} files at ${mark} have the SHA-256 that they had then`);
}

/** Looks around in the mounted tree. */
async function walkMount(mountPath: string, kept: ReadonlyMap<string, Kept>): Promise<void> {
  const volumePath = `${mountPath}/demo`;
  tell(`The past is mounted at ${mountPath}; ${LETTER} was deleted, and here it is:`);
  for (const args of [["-l", `${volumePath}/marks`], ["-lR", `${volumePath}/marks/monday/letters`]]) {
    console.log(`         $ ls ${args.join(" ")}`);
    show(await runProgram("ls", args));
  }
  const names = Array.from(Deno.readDirSync(`${volumePath}/marks/disaster/letters`), (entry) => entry.name);
  check(names.length === 0, "the letter is gone at disaster");
  const plan = await Deno.readFile(`${volumePath}/at/mark:tuesday${PLAN}`);
  check(hashBytes(plan) === kept.get("tuesday")?.files.get(PLAN), "at/mark:tuesday shows the plan as it was");
  const time = (await Deno.readLink(`${volumePath}/marks/monday`)).replace("../points/", "");
  check(
    await hashFile(`${volumePath}/images/${time}.img`) === kept.get("monday")?.disk,
    "the image of monday is the disk of monday, byte for byte",
  );
  tell(`images/${time}.img is the host's disk of monday, byte for byte`);
}

/** The whole story; throws an `Error` at the first thing that is not as it should be. */
async function story(appliance: DemoAppliance): Promise<void> {
  await appliance.ready();
  tell(`The appliance serves: everything is in ${appliance.folder} and is removed at the end`);
  await appliance.varve("volume", "create", "demo", "--size", SIZE);
  const hostFolder = `${appliance.folder}/host`;
  await Deno.mkdir(hostFolder);
  const host = await DemoHost.format(hostFolder, parseSize(SIZE));
  tell(`Created a volume of ${formatSize(parseSize(SIZE))}; the host formats it with ext4`);

  const kept = new Map<string, Kept>();
  const photo = new Uint8Array(8 * 1024 ** 2);
  for (let offset = 0; offset < photo.length; offset += 65_536) {
    crypto.getRandomValues(photo.subarray(offset, offset + 65_536));
  }
  const garbage = new TextEncoder().encode("YOUR FILES ARE ENCRYPTED ".repeat(40_000));
  const days: Parameters<typeof live>[1][] = [
    {
      mark: "monday",
      what: "wrote a photo, a letter and a ledger",
      changes: [
        { makeDirectory: "/photos" },
        { makeDirectory: "/letters" },
        { write: PHOTO, content: photo },
        { write: LETTER, content: new TextEncoder().encode("Dear Anna,\nthe lake is frozen.\n") },
        { write: LEDGER, content: ledger(5_000) },
      ],
    },
    {
      mark: "tuesday",
      what: "went on with the ledger and made a plan",
      changes: [
        { remove: LEDGER },
        { write: LEDGER, content: ledger(6_000) },
        { write: PLAN, content: new TextEncoder().encode("1. skate\n2. keep backups\n") },
      ],
    },
    {
      mark: "disaster",
      what: "lost the letter and the plan, and photo and ledger are overwritten with garbage",
      changes: [
        { remove: LETTER },
        { remove: PLAN },
        { remove: PHOTO },
        { write: PHOTO, content: garbage },
        { remove: LEDGER },
        { write: LEDGER, content: garbage },
      ],
    },
  ];
  for (const day of days) await live({ appliance, host, kept }, day);

  if (appliance.mountPath !== undefined) await walkMount(appliance.mountPath, kept);
  else {
    tell(`The past could not be mounted (${appliance.mountError}); it is read through the API instead`);
    show(await appliance.varve("ls", "demo", "/letters", "--at", "mark:monday"));
  }
  for (const [mark, moment] of kept) await comparePast(appliance, mark, moment);

  const target = `${appliance.folder}/recovered.img`;
  show(await appliance.varve("recover", "demo", "--at", "mark:tuesday", "--to", target, "--verify"));
  check(await hashFile(target) === kept.get("tuesday")?.disk, "the recovered disk is the disk of tuesday");
  tell("The recovered disk is the host's disk of tuesday, byte for byte");
  await runProgram("e2fsck", ["-fn", target]);
  tell("e2fsck finds it clean");
}

/** Rejects when the demo takes too long or is interrupted; `release` stops waiting for that. */
function interruption(): { interrupted: Promise<never>; release: () => void } {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`It took more than ${TIME_LIMIT_MS / 1000} s`)),
    TIME_LIMIT_MS,
  );
  const stop = () => reject(new Error("It was interrupted"));
  promise.catch(() => {}); // It may come before anybody races with it.
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) Deno.addSignalListener(signal, stop);
  return {
    interrupted: promise,
    release: () => {
      clearTimeout(timer);
      for (const signal of signals) Deno.removeSignalListener(signal, stop);
    },
  };
}

if (import.meta.main) {
  const { interrupted, release } = interruption();
  let code = 1;
  try {
    if (await ensurePackages(["e2fsprogs"])) {
      await using appliance = await DemoAppliance.start();
      await Promise.race([story(appliance), interrupted]);
      code = 0;
    }
  } catch (thrown) {
    console.error(`The demo failed. ${thrown instanceof Error ? thrown.message : thrown}`);
  }
  release();
  if (code === 0) tell("Done, and everything is removed");
  Deno.exit(code);
}

import { ok } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { latin1 } from "../_bytes.ts";
import { mountTest } from "../_kernel_mount.ts";
import { MemoryDevice, TemporaryFolder } from "../_test_support.ts";
import { seekContent } from "../content.ts";
import type { GuestFileSystem } from "../guest.ts";
import { makeNtfs, PeerMount } from "./_peer_mount.ts";
import { fillTree } from "./_windows_tree.ts";
import { NTFS_READER } from "./ntfs_reader.ts";

const IMAGES_PER_KIND = 500;
const VISITS_MAX = 400;
/** What all calls on one image may read together: a whole image reads a tenth of it. */
const READ_BYTES_MAX = 400 * 1024 * 1024;

const KINDS: Readonly<Record<string, string[]>> = {
  "clusters of 4 KiB": [],
  "clusters of 512 bytes": ["-c", "512"],
};

/** A device that counts what is read, and refuses more than a reader of sound mind needs. */
class CountingDevice extends MemoryDevice {
  readBytes = 0;

  override read(offset: number, target: Uint8Array): void {
    this.readBytes += target.length;
    if (this.readBytes > READ_BYTES_MAX) throw new Error("too much was read");
    super.read(offset, target);
  }
}

/** A small generator of the same numbers for the same seed. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

/** Runs one call; its failure is fine if it is ours. */
function attempt<Result>(work: () => Result): Result | undefined {
  try {
    return work();
  } catch (thrown) {
    const ours = thrown instanceof VarveError &&
      ["damaged", "unsupported", "invalid", "not-found"].includes(thrown.code);
    if (ours) return undefined;
    throw thrown;
  }
}

/** Calls everything on everything that can be reached; returns how many files that was. */
function exercise(fileSystem: GuestFileSystem): number {
  attempt(() => fileSystem.space);
  const waiting = [fileSystem.root];
  const seen = new Set(waiting);
  const buffer = new Uint8Array(70_000);
  let visits = 0;
  for (let inode = waiting.pop(); inode !== undefined && visits < VISITS_MAX; inode = waiting.pop()) {
    visits++;
    const number = inode;
    const stat = attempt(() => fileSystem.stat(number));
    if (stat === undefined) continue;
    attempt(() => fileSystem.xattrs(number));
    if (stat.type === "symlink") attempt(() => fileSystem.readLink(number));
    if (stat.type === "file") {
      attempt(() => fileSystem.read(number, 0, buffer));
      attempt(() => fileSystem.read(number, Math.floor(stat.sizeBytes / 2), buffer));
      attempt(() => fileSystem.map(number, 0, 2 ** 50));
      attempt(() => seekContent(fileSystem, stat, { offset: 0, kind: "hole" }));
    }
    if (stat.type !== "directory") continue;
    const entries = attempt(() => fileSystem.readDirectory(number)) ?? [];
    for (const [index, entry] of entries.entries()) {
      if (index % 20 === 0) attempt(() => fileSystem.lookup(number, entry.name));
      if (!seen.has(entry.inode)) waiting.push(entry.inode);
      seen.add(entry.inode);
    }
    attempt(() => fileSystem.lookup(number, new TextEncoder().encode("name that is not there")));
  }
  return visits;
}

/** Makes an image with everything in it. */
async function makeBusyImage(image: string, make: readonly string[]): Promise<void> {
  await makeNtfs(image, 12, ...make);
  await using mount = await PeerMount.open(image, "compression");
  await fillTree(mount.path, { names: 100, runs: 150 });
}

/** Where records and index blocks begin. */
function structures(image: Uint8Array): number[] {
  const found: number[] = [];
  for (let at = 0; at < image.length; at += 512) {
    if (["FILE", "INDX"].includes(latin1(image.subarray(at, at + 4)))) found.push(at);
  }
  return found;
}

const VALUES: readonly ((next: (below: number) => number, byte: number) => number)[] = [
  (next) => next(256),
  () => 0xff,
  () => 0,
  (_, byte) => byte + 1,
  (_, byte) => byte - 1,
  (next, byte) => byte ^ (1 << next(8)),
];

/** Changes a few bytes where the reader will look; the update sequences stay whole, or nothing behind them would ever be reached. */
function damage(
  bytes: Uint8Array,
  places: readonly number[],
  next: (below: number) => number,
): [number, number][] {
  const undo: [number, number][] = [];
  const set = (at: number, value: number) => {
    undo.push([at, bytes[at] ?? 0]);
    bytes[at] = value;
  };
  const aware = next(5) !== 0;
  for (let flips = 1 + next(aware ? 40 : 400); flips > 0; flips--) {
    if (!aware) {
      set(next(bytes.length), next(256));
      continue;
    }
    // Often one of the first records: $MFT, its copy, the root, the table of cases.
    const place = next(12) === 0
      ? 0
      : (places[next(next(15) === 0 ? Math.min(16, places.length) : places.length)] ?? 0);
    const at = place + (place === 0 ? 11 + next(70) : 16 + next(next(2) === 0 ? 200 : 1000));
    if (at % 512 >= 510 || (place !== 0 && at - place >= 0x28 && at - place < 0x3a)) continue;
    const change = VALUES[next(VALUES.length)] ?? (() => 0);
    for (let width = [1, 1, 2, 4, 8][next(5)] ?? 1; width > 0; width--) {
      const byte = at + width - 1;
      if (byte % 512 < 510) set(byte, change(next, bytes[byte] ?? 0));
    }
  }
  return undo;
}

for (const [kind, make] of Object.entries(KINDS)) {
  mountTest(`ntfs: damaged images (${kind}) give answers or our errors, and an end`, async () => {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    await makeBusyImage(image, make);
    const bytes = await Deno.readFile(image);
    const whole = new CountingDevice(bytes);
    ok(exercise(NTFS_READER.open(whole)) > 200);
    ok(whole.readBytes < READ_BYTES_MAX / 8, `${whole.readBytes}`);
    const places = structures(bytes);
    let opened = 0;
    for (let seed = 1; seed <= IMAGES_PER_KIND; seed++) {
      const undo = damage(bytes, places, random(seed));
      try {
        const fileSystem = attempt(() => NTFS_READER.open(new CountingDevice(bytes)));
        if (fileSystem !== undefined && exercise(fileSystem) > 0) opened++;
      } catch (thrown) {
        throw new Error(`seed ${seed}: ${thrown}`, { cause: thrown });
      }
      for (const [at, byte] of undo.reverse()) bytes[at] = byte;
    }
    // If nearly all failed to open, nothing behind the door would have been tried.
    ok(opened > IMAGES_PER_KIND / 2, `${opened}`);
  });
}

/**
 * Versions of a file on a kernel-mounted ext4 under noise: what the search tells is what a look at every moment at which the guest
 * flushed tells, and the bounds are exact.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { changedFiles } from "../src/browse/changed_files.ts";
import {
  type ByteRange,
  fileVersions,
  MapMomentSteps,
  NotingDevice,
  pastFileHistory,
  probeFile,
} from "../src/browse/versions.ts";
import { VarveError } from "../src/base/errors.ts";
import { RecoveryMap } from "../src/catalog/recovery_map.ts";
import { FileDisk } from "../src/disk/mod.ts";
import { openGuestDisk } from "../src/guestfs/mod.ts";
import { SegmentReader } from "../src/journal/mod.ts";
import { isTouched } from "../src/timeline/changes.ts";
import { BlockCache, RegionCache, View } from "../src/timeline/view.ts";
import { PastFiles } from "../src/browse/past_files.ts";
import { directDisk } from "../src/browse/direct_disk.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { kernelMount, loopDevice, nbdAsFile } from "./support/devices.ts";
import { run } from "./support/run.ts";
import { Writers } from "./support/writers.ts";

const SIZE_BYTES = 384 * MIB;
const PATH = "/home/docs/report";
/** Versions that the changes below must make, and what is told of fewer moments would not prove much. */
const VERSIONS_MIN = 30;
const MOMENTS_MIN = 100;
const ROUNDS = 4;

/** Pairs of moments whose trees are compared. */
const COMPARISONS = 6;

/** One round of everything that happens to a file; `f` is the file, `d` its folder, `h` the folder above. */
const CHANGES = [
  `mkdir -p $d; echo "$1 first" > $f`,
  `echo "$1 appended" >> $f`,
  `echo "$1 temporary" > $d/.new; sync $d/.new; mv $d/.new $f`,
  `head -c 100000 /dev/urandom > $f`,
  `head -c 20000 /dev/urandom | dd of=$f conv=notrunc bs=4096 seek=3 status=none`,
  `chmod 600 $f`,
  `truncate -s 3000 $f; truncate -s 3M $f`,
  `mv $d $h/elsewhere`,
  `mv $h/elsewhere $d`,
  `ln $f $d/link`,
  `rm -f $f $d/link`,
];

interface Past extends Disposable {
  readonly map: RecoveryMap;
  readonly segments: SegmentReader;
  readonly regions: RegionCache;
}

async function openPast(appliance: TestAppliance): Promise<Past> {
  const [volume] = await Array.fromAsync(Deno.readDir(`${appliance.dataPath}/volumes`));
  const folder = `${appliance.dataPath}/volumes/${volume?.name}`;
  const disk = new FileDisk();
  const map = new RecoveryMap(`${folder}/map.sqlite`, { readOnly: true, disk });
  const segments = new SegmentReader(disk, `${folder}/segments`);
  return {
    map,
    segments,
    regions: new RegionCache(map),
    [Symbol.dispose]() {
      segments.close();
      map.close();
    },
  };
}

/** What a reader without any memory says of the file: all of its bytes, and what is kept about it. */
async function lookAt(past: Past, seq: number): Promise<string> {
  const view = new View(past, seq, SIZE_BYTES);
  try {
    const files = new PastFiles(directDisk(openGuestDisk(view)));
    const found = await files.find(PATH, { follow: false });
    const { system, inode } = found.place ?? assert.fail();
    const { accessedNs: _accessed, blocks512: _blocks, ...stat } = await system.stat(inode);
    const content = createHash("sha256").update(await files.read(found, 0, stat.sizeBytes)).digest("hex");
    return JSON.stringify({ ...stat, content }, (_, value) => typeof value === "bigint" ? `${value}` : value);
  } catch (thrown) {
    if (!(thrown instanceof VarveError)) throw thrown;
    return thrown.code === "not-found" && !thrown.message.includes("partition") ? "absent" : "unreadable";
  }
}

interface Seen {
  readonly identity: string;
  readonly content: string;
  readonly attributes: string;
}

/** Every file of a moment but those that cannot be read, from its path in hexadecimal. */
function treeAt(past: Past, seq: number): Map<string, Seen> {
  const view = new View(past, seq, SIZE_BYTES);
  const system = openGuestDisk(view).partitions[0]?.fileSystem ?? assert.fail();
  const tree = new Map<string, Seen>();
  const visit = (path: string, inode: number) => {
    const { type, mode, uid, gid, sizeBytes, bornNs, changedNs } = system.stat(inode);
    const bytes = new Uint8Array(type === "file" ? sizeBytes : 0);
    if (type === "file") system.read(inode, 0, bytes);
    const content = type === "symlink"
      ? system.readLink(inode).toHex()
      : createHash("sha256").update(bytes).digest("hex");
    const attributes = [mode, uid, gid, type === "directory" ? "" : changedNs].join(" ");
    tree.set(path, { identity: `${inode} ${bornNs} ${type}`, content, attributes });
    if (type !== "directory") return;
    for (const entry of system.readDirectory(inode)) visit(`${path}2f${entry.name.toHex()}`, entry.inode);
  };
  visit("", system.root);
  return tree;
}

/** What the comparison tells of two moments is what both trees, read in whole, tell. */
async function checkChanges(past: Past, fromSeq: number, toSeq: number): Promise<number> {
  const [old, now] = [treeAt(past, fromSeq), treeAt(past, toSeq)];
  const at = (seq: number) => ({ device: new View(past, seq, SIZE_BYTES), open: openGuestDisk });
  const isTouchedBetween = (ranges: Iterable<ByteRange>) =>
    isTouched({ regions: past.regions, fromSeq, toSeq }, ranges);
  const changes = changedFiles({ from: at(fromSeq), to: at(toSeq), isTouched: isTouchedBetween });
  const explained = new Map([...old].map(([path, seen]) => [path, { ...seen, isTold: false }]));
  const moved = new Map<string, string>();
  const told = await Array.fromAsync(changes);
  const hexOf = (path: Uint8Array | undefined) => path?.toHex().replace(/^2f$/, "") ?? assert.fail();
  for (const { kind, path } of told) {
    assert.notEqual(kind, "unreadable");
    if (kind === "deleted") assert.ok(explained.delete(hexOf(path)), "only what was there is deleted");
  }
  // A directory that was renamed takes what is in it along; the shortest paths first, and all at once.
  const renamed = told.filter(({ kind }) => kind === "renamed")
    .map(({ path, formerPath }) => [hexOf(formerPath), hexOf(path)] as const);
  const placed = new Map<string, { seen: Seen; isTold: boolean }>();
  const targetOf = (path: string): string => {
    const exact = moved.get(path);
    if (exact !== undefined) return exact;
    if (path === "") return "";
    const names = path.match(/2f(?:(?!2f)..)*/g) ?? [];
    return targetOf(names.slice(0, -1).join("")) + names.at(-1);
  };
  for (const [former, path] of renamed) moved.set(former, path);
  for (const [path, seen] of explained) placed.set(targetOf(path), { seen, isTold: false });
  for (const { kind, path, contentChanged } of told) {
    const key = hexOf(path);
    const is = now.get(key);
    if (kind === "created") {
      assert.ok(is !== undefined && !placed.has(key));
      placed.set(key, { seen: is, isTold: true });
    } else if (kind !== "deleted") {
      const was = placed.get(key)?.seen;
      assert.ok(is !== undefined && was !== undefined, `${kind} ${new TextDecoder().decode(path)}`);
      if (contentChanged === false) assert.equal(was.content, is.content);
      placed.set(key, { seen: is, isTold: true });
    }
  }
  for (const [path, is] of now) {
    const known = placed.get(path);
    const what = new TextDecoder().decode(Uint8Array.fromHex(path));
    assert.ok(known !== undefined, `${what} was not told`);
    assert.ok(
      known.isTold || JSON.stringify(known.seen) === JSON.stringify({ ...is, isTold: false }),
      `${what} differs`,
    );
    placed.delete(path);
  }
  assert.deepEqual([...placed.keys()], []);
  return told.length;
}

Deno.test(
  "versions: of a file under noise on ext4 every one is found that a look at every flush finds",
  withAppliance(async (appliance) => {
    await appliance.createVolume("live", SIZE_BYTES);
    {
      await using file = await nbdAsFile(appliance.uri("live"), `${appliance.folder}/nbdfuse`);
      await using loop = await loopDevice(file.path);
      await run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop.path);
      await using host = await kernelMount(loop.path, `${appliance.folder}/host`);
      await using _writers = await Writers.start(host.path, `${appliance.folder}/stop`);
      const folders = `h=${host.path}/home; d=$h/docs; f=$d/report; `;
      for (let round = 0; round < ROUNDS; round++) {
        for (const change of CHANGES) {
          await run("bash", "-ec", `${folders} ${change}; sync --file-system $h`, "change", `${round}`);
        }
      }
    }
    await appliance.stop();

    using past = await openPast(appliance);
    const moments = new MapMomentSteps(past.map);
    const settled: number[] = [];
    for (let seq = moments.settled.after(-1); seq !== undefined; seq = moments.settled.after(seq)) {
      settled.push(seq);
    }
    const truth: { key: string; first: number; last: number }[] = [];
    for (const seq of settled) {
      const key = await lookAt(past, seq);
      const last = truth.at(-1);
      if (last?.key === key) last.last = seq;
      else truth.push({ key, first: seq, last: seq });
    }
    assert.ok(settled.length >= MOMENTS_MIN, `only ${settled.length} moments`);
    const expected = truth.filter(({ key }) => key !== "unreadable").reverse();
    assert.ok(expected.length >= VERSIONS_MIN, `only ${expected.length} versions`);

    const history = pastFileHistory(
      { ...past, blocks: new BlockCache(32 * MIB), sizeAt: () => SIZE_BYTES },
      PATH,
    );
    const { versions, unproven, truncated, probes } = await fileVersions(history, { versionsMax: 1000 });
    assert.equal(truncated, false);
    assert.deepEqual(unproven, []);
    assert.ok(probes < 12 * versions.length + 40, `${probes} probes for ${versions.length} versions`);
    const told = versions.map(({ from, until }) => `${from.seq} to ${until.seq}`).join(", ");
    assert.equal(versions.length, expected.length, told);
    for (const [index, { from, until, file }] of versions.entries()) {
      const { key, first, last } = expected[index] ?? assert.fail();
      const what = `${from.seq} to ${until.seq}, seen from ${first} to ${last}`;
      assert.ok(from.seq <= first && until.seq >= last, what);
      assert.equal(file === undefined, key === "absent", what);
      for (const seq of [from.seq, until.seq]) {
        assert.equal(await lookAt(past, seq), key, `${what}, at ${seq}`);
      }
      for (const seq of [moments.every.atOrBefore(from.seq - 1), moments.every.after(until.seq)]) {
        if (seq !== undefined) assert.notEqual(await lookAt(past, seq), key, `${what}, at ${seq}`);
      }
    }
    // What is remembered from moment to moment changes nothing about an answer.
    for (const seq of settled.filter((_, index) => index % 5 === 0)) {
      const { read: _read, ...remembering } = await history.probe(seq);
      const device = new NotingDevice(new View(past, seq, SIZE_BYTES));
      const { read: _all, ...plain } = probeFile(device, openGuestDisk, PATH);
      assert.deepEqual(remembering, plain, `at ${seq}`);
    }
    let changes = 0;
    const readable: number[] = [];
    for (const seq of settled) if (await lookAt(past, seq) !== "unreadable") readable.push(seq);
    for (let index = 1; index <= COMPARISONS; index++) {
      const pick = (share: number) => readable[Math.floor((readable.length - 1) * share)] ?? assert.fail();
      const [from, to] = [pick((index - 1) / COMPARISONS), pick(index / COMPARISONS)];
      changes += await checkChanges(past, from, to);
    }
    assert.ok(changes > 200, `only ${changes} changes`);
    await appliance.launch();
  }),
);

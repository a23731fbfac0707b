import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { MOMENT_KINDS, type PackedMoment } from "../catalog/packing.ts";
import { deletedFiles, type DirectoryHistory } from "./deleted_files.ts";
import type { FileProbe } from "./versions.ts";

/** A directory whose names at each moment are a row of this table; every moment is a flush. */
function historyOf(rows: readonly (string | undefined)[]): DirectoryHistory & { listed: number[] } {
  const changedAt = (seq: number): number => {
    let at = seq;
    while (at > 0 && rows[at - 1] === rows[seq]) at--;
    return at;
  };
  const line = {
    atOrBefore: (position: number) =>
      position < 0 ? undefined : Math.min(Math.floor(position), rows.length - 1),
    after: (position: number) =>
      position + 1 < rows.length ? Math.max(0, Math.floor(position) + 1) : undefined,
  };
  const listed: number[] = [];
  return {
    listed,
    moments: {
      every: line,
      settled: line,
      momentAt: (seq): PackedMoment => ({ seq, timeUs: seq, kind: MOMENT_KINDS.flush }),
      seqAt: (timeUs) => line.atOrBefore(timeUs),
    },
    probe: (seq): Promise<FileProbe> => {
      const changedNs = BigInt(changedAt(seq)) * 1000n;
      const common = {
        place: "",
        stored: [],
        complete: true,
        read: [{ offset: 0, length: BLOCK_BYTES }],
        keepsChangeTimes: true,
        way: [{ directory: 2, directoryChangedNs: 0n, found: { inode: 3, changedNs } }],
      };
      if (rows[seq] === undefined) {
        return Promise.resolve({
          ...common,
          state: "absent",
          way: [{ directory: 2, directoryChangedNs: changedNs, found: undefined }],
        });
      }
      const file = {
        inode: 3,
        type: "directory" as const,
        mode: 0o755,
        uid: 0,
        gid: 0,
        links: 2,
        sizeBytes: 4096,
        rdev: 0,
        modifiedNs: changedNs,
        changedNs,
      };
      return Promise.resolve({ ...common, state: "present", file });
    },
    lastChange: (_ranges, fromSeq, toSeq) => changedAt(toSeq) > fromSeq ? changedAt(toSeq) : undefined,
    list: (seq) => {
      listed.push(seq);
      return Promise.resolve(Array.from(rows[seq] ?? "", (name) => ({
        name: new TextEncoder().encode(name),
        type: "file" as const,
        stat: undefined,
      })));
    },
  };
}

async function namesOf(history: DirectoryHistory, filesMax?: number): Promise<string[]> {
  const { files } = await deletedFiles(history, filesMax === undefined ? {} : { filesMax });
  return files.map(({ name, lastSeen }) => `${new TextDecoder().decode(name)}${lastSeen.seq}`);
}

Deno.test("deletedFiles() tells every name that was there and is not now, with the last moment that has it", async () => {
  const history = historyOf(["ab", "ab", "abc", "bc", "bc", "bd", "b", "be", "be"]);
  assert.deepEqual(await namesOf(history), ["d5", "c4", "a2"]);
  assert.deepEqual(history.listed.toSorted(), [1, 2, 4, 5, 6, 8], "each version is listed once");
});

Deno.test("deletedFiles() sees through times without the directory, and tells all of one that is gone", async () => {
  assert.deepEqual(await namesOf(historyOf(["ab", undefined, undefined, "b", "b"])), ["a0"]);
  assert.deepEqual(await namesOf(historyOf(["ab", "a", undefined])), ["a1", "b0"]);
  assert.deepEqual(await namesOf(historyOf([undefined])), []);
});

Deno.test("deletedFiles() says so when there may be more", async () => {
  const rows = ["abcdef", "bcdef", "cdef", "def", "ef", "f"];
  const few = await deletedFiles(historyOf(rows), { filesMax: 2 });
  assert.deepEqual([few.files.length, few.truncated], [2, true]);
  const old = await deletedFiles(historyOf(rows), { versionsMax: 3 });
  assert.deepEqual([old.files.length, old.truncated], [2, true]);
  assert.equal((await deletedFiles(historyOf(rows))).truncated, false);
});

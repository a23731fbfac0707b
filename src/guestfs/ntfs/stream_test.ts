import { deepEqual, equal, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { noise } from "../_busy_tree.ts";
import { MemoryDevice } from "../_test_support.ts";
import type { Attribute } from "./attribute.ts";
import { ATTRIBUTE } from "./format.ts";
import { NtfsStream, StreamContext, type StreamPiece } from "./stream.ts";

const CLUSTER_BYTES = 512;
const CLUSTERS = 200;
const DEVICE = new MemoryDevice(noise(1, CLUSTERS * CLUSTER_BYTES));

/** A piece whose runs are pairs of a first cluster on the volume, or none for a hole, and a number of clusters. */
interface PieceRuns {
  readonly firstVcn: number;
  readonly runs: readonly (readonly [lcn: number | undefined, count: number])[];
  readonly sizeBytes?: number;
  readonly initialisedBytes?: number;
  readonly flags?: number;
}

function piece(
  { firstVcn, runs, sizeBytes = 0, initialisedBytes = sizeBytes, flags = 0 }: PieceRuns,
  key: number,
): StreamPiece {
  const list: number[] = [];
  let before = 0;
  for (const [lcn, count] of runs) {
    if (lcn === undefined) list.push(0x01, count);
    else list.push(0x21, count, (lcn - before) & 0xff, (lcn - before) >> 8 & 0xff);
    before = lcn ?? before;
  }
  const attribute: Attribute = {
    type: ATTRIBUTE.data,
    name: "",
    flags,
    instance: 0,
    content: {
      firstVcn,
      endVcn: firstVcn + runs.reduce((sum, [, count]) => sum + count, 0),
      allocatedBytes: 0,
      sizeBytes,
      initialisedBytes,
      takenBytes: 0,
      compressionUnit: flags === 0 ? 0 : 4,
      runList: Uint8Array.from([...list, 0]),
    },
  };
  return { firstVcn, key, load: () => attribute };
}

function open(...pieces: PieceRuns[]): NtfsStream {
  const geometry = {
    sectorBytes: 512,
    clusterBytes: CLUSTER_BYTES,
    clusterCount: CLUSTERS,
    recordBytes: 1024,
    mftOffset: 0,
    mirrorOffset: 0,
  };
  return new NtfsStream(new StreamContext(geometry), pieces.map(piece));
}

function clusters(lcn: number, count: number): Uint8Array {
  return DEVICE.bytes.subarray(lcn * CLUSTER_BYTES, (lcn + count) * CLUSTER_BYTES);
}

function refused(work: () => unknown): void {
  throws(work, (thrown) => thrown instanceof VarveError && thrown.code === "damaged");
}

Deno.test("stream: pieces, runs and holes follow one another, from any offset on", () => {
  const stream = open(
    { firstVcn: 0, runs: [[50, 3], [undefined, 2]], sizeBytes: 4500 },
    { firstVcn: 5, runs: [[10, 1], [90, 3]] },
  );
  const content = new Uint8Array([
    ...clusters(50, 3),
    ...new Uint8Array(1024),
    ...clusters(10, 1),
    ...clusters(90, 3),
  ]);
  for (
    const [offset, length] of [[0, 4500], [1, 4000], [1500, 40], [2559, 2], [4499, 100], [4500, 1], [
      9000,
      1,
    ]] as const
  ) {
    const target = new Uint8Array(length);
    const count = stream.read(DEVICE, offset, target);
    deepEqual(
      target.subarray(0, count),
      content.subarray(Math.min(offset, 4500), Math.min(offset + length, 4500)),
    );
  }
  deepEqual([...stream.runs(1000, 3500)], [
    { kind: "stored", length: 536, deviceOffset: 50 * 512 + 1000 },
    { kind: "hole", length: 1024 },
    { kind: "stored", length: 512, deviceOffset: 10 * 512 },
    { kind: "stored", length: 1428, deviceOffset: 90 * 512 },
  ]);
});

Deno.test("stream: pieces that leave a gap, or end too early, or don't begin, are damage", () => {
  const all = (stream: NtfsStream) => stream.read(DEVICE, 0, new Uint8Array(10_000));
  refused(() =>
    all(open({ firstVcn: 0, runs: [[50, 3]], sizeBytes: 4096 }, { firstVcn: 4, runs: [[60, 4]] }))
  );
  refused(() =>
    all(open({ firstVcn: 0, runs: [[50, 5]], sizeBytes: 4096 }, { firstVcn: 4, runs: [[60, 4]] }))
  );
  refused(() => all(open({ firstVcn: 0, runs: [[50, 7]], sizeBytes: 4096 })));
  refused(() => open({ firstVcn: 1, runs: [[50, 7]], sizeBytes: 4096 }));
  refused(() => open());
});

Deno.test("stream: units of 16 clusters are holes, stored as they are, or packed", () => {
  // A chunk of one byte, 0x61, and nothing after it.
  const packed = Uint8Array.of(1, 0xb0, 0, 0x61, 0, 0);
  DEVICE.bytes.set(packed, 150 * CLUSTER_BYTES);
  const lznt1 = { firstVcn: 0, flags: 1, sizeBytes: 64 * 512 };
  const stream = open({ ...lznt1, runs: [[undefined, 16], [20, 10], [60, 6], [150, 1], [undefined, 31]] });
  deepEqual([...stream.runs(100, 64 * 512 - 100)], [
    { kind: "hole", length: 16 * 512 - 100 },
    { kind: "stored", length: 10 * 512, deviceOffset: 20 * 512 },
    { kind: "stored", length: 6 * 512, deviceOffset: 60 * 512 },
    { kind: "made", length: 16 * 512 },
    { kind: "hole", length: 16 * 512 },
  ]);
  const target = new Uint8Array(64 * 512);
  equal(stream.read(DEVICE, 0, target), target.length);
  const unit = new Uint8Array(32 * 512);
  unit[0] = 0x61;
  deepEqual(
    target,
    new Uint8Array([...new Uint8Array(16 * 512), ...clusters(20, 10), ...clusters(60, 6), ...unit]),
  );
  refused(() => [...open({ ...lznt1, runs: [[20, 1], [undefined, 1], [22, 14], [40, 48]] }).runs(0, 100)]);
  refused(() => [...open({ ...lznt1, runs: [[20, 15]] }).runs(0, 100)]);
});

Deno.test("stream: a packed unit is read from any offset on", () => {
  // A chunk of 100 bytes as they are.
  const content = noise(7, 100);
  DEVICE.bytes.set([99, 0x30, ...content, 0, 0], 160 * CLUSTER_BYTES);
  const stream = open({ firstVcn: 0, flags: 1, sizeBytes: 8192, runs: [[160, 1], [undefined, 15]] });
  for (const [offset, length] of [[0, 100], [1, 98], [50, 25], [99, 1]] as const) {
    const target = new Uint8Array(length);
    stream.read(DEVICE, offset, target);
    deepEqual(target, content.subarray(offset, offset + length));
  }
});

Deno.test("stream: what lies behind the part that was ever written is zero", () => {
  const stream = open({ firstVcn: 0, runs: [[50, 8]], sizeBytes: 4096, initialisedBytes: 700 });
  const target = new Uint8Array(1000).fill(1);
  stream.read(DEVICE, 0, target);
  deepEqual(target, new Uint8Array([...clusters(50, 2).subarray(0, 700), ...new Uint8Array(300)]));
  deepEqual([...stream.runs(0, 4096)].map(({ kind, length }) => [kind, length]), [["stored", 700], [
    "hole",
    3396,
  ]]);
});

import assert from "node:assert/strict";
import { crc32, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { MemoryDisk } from "../disk/mod.ts";
import {
  type BlockRun,
  COMPRESSED_HEADER_BYTES,
  CompressedSegmentFile,
  encodeCompressedSegment,
  FRAME_BYTES,
  FrameCache,
  isCompressedSegment,
  JournalWriter,
  segmentFileName,
  SegmentReader,
} from "./mod.ts";

const VOLUME = "00112233445566778899aabbccddeeff";
const RAW = "/raw";
const PACKED = "/packed";

/** What one record of a made-up segment holds: text-like blocks, random ones, or none. */
type Shape = { kind: "text" | "noise"; blocks: number } | { kind: "mark" | "trim" };

const shapes: fc.Arbitrary<Shape[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constantFrom("text" as const, "noise" as const), blocks: fc.nat({ max: 40 }) }),
    fc.constantFrom<Shape>({ kind: "mark" }, { kind: "trim" }),
  ),
  { minLength: 1, maxLength: 12 },
);

function payloadOf(shape: Shape, name: number): Uint8Array {
  if (shape.kind === "mark") return new TextEncoder().encode(`{"type":"mark","name":"m${name}"}`);
  if (!("blocks" in shape)) return new Uint8Array(0);
  const bytes = new Uint8Array(shape.blocks * BLOCK_BYTES);
  let state = name + 1;
  for (let i = 0; i < bytes.length; i++) {
    if (shape.kind === "noise") state = (state * 1664525 + 1013904223) >>> 0;
    bytes[i] = shape.kind === "noise" ? state >>> 24 : (name * 7 + (i >> 6)) % 61;
  }
  return bytes;
}

/** A disk with segment 1 in both forms, and the runs of blocks in it. */
async function bothForms(records: readonly Shape[]): Promise<{ disk: MemoryDisk; runs: BlockRun[] }> {
  const disk = new MemoryDisk();
  const writer = new JournalWriter(disk, {
    directory: RAW,
    volumeId: VOLUME,
    nextSegment: 1,
    lastSeq: 0,
    segmentBytes: 1 << 30,
    clock: { nowUs: () => 1 },
    describe: () => '{"type":"volume"}',
  });
  const runs: BlockRun[] = [];
  for (const [index, shape] of records.entries()) {
    const seq = index + 1;
    const payload = payloadOf(shape, seq);
    const kind = shape.kind === "mark" || shape.kind === "trim" ? shape.kind : "write";
    const { segment, offset: recordOffset } = writer.append(
      { kind, flags: 0, seq, timeUs: seq, offset: 0, length: 1, firstBlock: 10 * seq, client: 0 },
      payload,
    );
    const total = kind === "write" ? payload.length / BLOCK_BYTES : 0;
    for (let payloadBlock = 0; payloadBlock < total; payloadBlock += 3) {
      const blockCount = Math.min(total - payloadBlock, 1 + payloadBlock % 5);
      runs.push({
        segment,
        recordOffset,
        payloadBlock,
        blockCount,
        seq,
        firstBlock: 10 * seq + payloadBlock,
      });
    }
  }
  await writer.close();
  compress(disk);
  return { disk, runs };
}

function compress(disk: MemoryDisk): void {
  const source = disk.open(`${RAW}/${segmentFileName(1)}`);
  const target = disk.open(`${PACKED}/${segmentFileName(1)}`, { mode: "create-new" });
  const steps = encodeCompressedSegment(source, target, { volumeId: VOLUME, segment: 1 });
  let step = steps.next();
  while (!step.done) step = steps.next();
  assert.equal(step.value, target.sizeBytes());
}

function read(reader: SegmentReader, run: BlockRun): Uint8Array {
  const target = new Uint8Array(run.blockCount * BLOCK_BYTES);
  reader.readBlocks(run, target);
  return target;
}

function scan(reader: SegmentReader) {
  const records: unknown[] = [];
  const result = reader.scan(1, 0, (record) => void records.push(record));
  return { result, records };
}

Deno.test("SegmentReader reads a compressed segment exactly as the one it stands for", async () => {
  await fc.assert(
    fc.asyncProperty(shapes, async (records) => {
      const { disk, runs } = await bothForms(records);
      const raw = new SegmentReader(disk, RAW);
      const packed = new SegmentReader(disk, PACKED);
      assert.ok(packed.isCompressed(1) && !raw.isCompressed(1));
      assert.equal(packed.sizeBytes(1), raw.sizeBytes(1));
      assert.deepEqual(packed.header(1), raw.header(1));
      assert.deepEqual(scan(packed), scan(raw));
      assert.deepEqual([...packed.headers(1)], [...raw.headers(1)]);
      for (const run of runs.toReversed()) assert.equal(crc32(read(packed, run)), crc32(read(raw, run)));
      raw.close();
      packed.close();
    }),
    { numRuns: 40 },
  );
});

Deno.test("a flipped byte anywhere in a compressed segment is an error or does no harm, never other bytes", async () => {
  const { disk, runs } = await bothForms([
    { kind: "text", blocks: 30 },
    { kind: "noise", blocks: 12 },
    { kind: "mark" },
    { kind: "text", blocks: 9 },
  ]);
  const raw = new SegmentReader(disk, RAW);
  const expected = runs.map((run) => crc32(read(raw, run)));
  const whole = scan(raw);
  const file = disk.open(`${PACKED}/${segmentFileName(1)}`, { mode: "write" });
  const size = file.sizeBytes();
  const tableEnd = COMPRESSED_HEADER_BYTES + 8 * Math.ceil(raw.sizeBytes(1) / FRAME_BYTES);
  const byte = new Uint8Array(1);
  let readable = 0;
  for (let at = 0; at < size; at += at < tableEnd ? 1 : 97) {
    file.read(at, byte);
    file.write(at, byte.map((value) => value ^ (1 << at % 8)));
    const reader = new SegmentReader(disk, PACKED);
    for (const [index, run] of runs.entries()) {
      try {
        assert.equal(crc32(read(reader, run)), expected[index], `byte ${at}, run ${index}`);
        readable++;
      } catch (thrown) {
        assert.ok(thrown instanceof VarveError, String(thrown));
        assert.ok(thrown.code === "damaged" || thrown.code === "unsupported", thrown.message);
      }
    }
    const found = scan(reader);
    assert.deepEqual(found.records, whole.records.slice(0, found.records.length), `byte ${at}`);
    assert.ok(found.records.length < whole.records.length, `byte ${at}: nothing was noticed`);
    reader.close();
    file.write(at, byte);
  }
  assert.ok(readable > size / 97, "what lies in other frames stays readable");
});

Deno.test("a damaged frame is met only by reads that touch it", async () => {
  const { disk } = await bothForms([{ kind: "text", blocks: 200 }]);
  const place = `${PACKED}/${segmentFileName(1)}`;
  const whole = new CompressedSegmentFile(disk.open(place), new FrameCache(0));
  const frames = Math.ceil(whole.sizeBytes() / FRAME_BYTES);
  const writable = disk.open(place, { mode: "write" });
  writable.write(writable.sizeBytes() - 1, Uint8Array.of(0xff));
  const damaged = new CompressedSegmentFile(disk.open(place), new FrameCache(1 << 20));
  const byte = new Uint8Array(1);
  for (let frame = 0; frame < frames - 1; frame++) {
    assert.equal(damaged.read(frame * FRAME_BYTES, byte), 1);
  }
  assert.throws(() => damaged.read((frames - 1) * FRAME_BYTES, byte), { code: "damaged" });
  assert.throws(() => damaged.read((frames - 1) * FRAME_BYTES - 1, new Uint8Array(2)), { code: "damaged" });
});

/** A compressed file with right checksums around one frame of any content. */
function forge(disk: MemoryDisk, stored: Uint8Array, virtualBytes: number, version = 1): void {
  const bytes = new Uint8Array(COMPRESSED_HEADER_BYTES + 8);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode("VARVEZST"));
  view.setUint32(8, version, true);
  view.setUint32(12, FRAME_BYTES, true);
  view.setUint32(32, 1, true);
  view.setUint32(40, virtualBytes, true);
  view.setUint32(64, stored.length, true);
  view.setUint32(68, crc32(stored, 1), true);
  view.setUint32(56, crc32(bytes.subarray(64)), true);
  view.setUint32(60, crc32(bytes.subarray(0, 60)), true);
  disk.open(`${PACKED}/${segmentFileName(1)}`, { mode: "create" }).write(0, bytes, stored);
}

Deno.test("CompressedSegmentFile refuses a frame that becomes more or less than its place, and what is no zstd", () => {
  const disk = new MemoryDisk();
  const attempt = (stored: Uint8Array) => {
    forge(disk, stored, 1000);
    const file = new CompressedSegmentFile(
      disk.open(`${PACKED}/${segmentFileName(1)}`),
      new FrameCache(1 << 20),
    );
    file.read(0, new Uint8Array(10));
  };
  attempt(zstdCompressSync(new Uint8Array(1000)));
  assert.throws(() => attempt(zstdCompressSync(new Uint8Array(1 << 26))), { code: "damaged" });
  assert.throws(() => attempt(zstdCompressSync(new Uint8Array(999))), { code: "damaged" });
  assert.throws(() => attempt(new Uint8Array(100)), { code: "damaged" });
});

Deno.test("CompressedSegmentFile refuses another version, and every change", async () => {
  const disk = new MemoryDisk();
  forge(disk, new Uint8Array(1000), 1000, 2);
  const place = `${PACKED}/${segmentFileName(1)}`;
  assert.throws(() => new CompressedSegmentFile(disk.open(place), new FrameCache(0)), {
    code: "unsupported",
  });
  disk.remove(place);
  const both = (await bothForms([{ kind: "text", blocks: 3 }])).disk;
  const file = new CompressedSegmentFile(both.open(place), new FrameCache(0));
  for (const change of ["write", "discard", "reserve", "truncate"] as const) {
    assert.throws(() => file[change](), { code: "read-only" });
  }
});

Deno.test("a compressed segment under the name of another is damaged, not read", async () => {
  const { disk, runs } = await bothForms([{ kind: "text", blocks: 3 }]);
  disk.rename(`${PACKED}/${segmentFileName(1)}`, `${PACKED}/${segmentFileName(2)}`);
  const reader = new SegmentReader(disk, PACKED);
  const [run] = runs;
  assert.ok(run !== undefined);
  assert.throws(() => read(reader, { ...run, segment: 2 }), { code: "damaged" });
});

Deno.test("FrameCache keeps within its budget and drops what was used least recently", () => {
  const cache = new FrameCache(30);
  let loads = 0;
  const get = (frame: number) =>
    cache.get(1, frame, () => {
      loads++;
      return new Uint8Array(10).fill(frame);
    });
  for (const frame of [0, 1, 2, 0, 3]) assert.equal(get(frame)[0], frame);
  assert.equal(loads, 4);
  get(0);
  assert.equal(loads, 4, "used lately");
  get(1);
  assert.equal(loads, 5, "dropped");
});

Deno.test("isCompressedSegment() is false for a raw segment and for a file too short to tell", async () => {
  const { disk } = await bothForms([{ kind: "mark" }]);
  assert.equal(isCompressedSegment(disk.open(`${RAW}/${segmentFileName(1)}`)), false);
  assert.equal(isCompressedSegment(disk.open("/short", { mode: "create" })), false);
});

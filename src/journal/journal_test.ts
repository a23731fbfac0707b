/** The writing and the reading end of the journal, against each other and against damage. */
import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import type { Clock } from "../base/clock.ts";
import { VarveError } from "../base/errors.ts";
import { type Disk, type DiskFile, type DiskOpenOptions, MemoryDisk } from "../disk/mod.ts";
import {
  encodeSegmentHeader,
  JournalWriter,
  type JournalWriterOptions,
  MAX_PAYLOAD_BYTES,
  type NewRecord,
  RECORD_HEADER_BYTES,
  recordBytes,
  type RecordPlace,
  type ScannedRecord,
  SEGMENT_HEADER_BYTES,
  segmentFileName,
  SegmentReader,
} from "./mod.ts";

const FOLDER = "/j";
const VOLUME = "00112233445566778899aabbccddeeff";
const META = '{"type":"volume"}';
const META_BYTES = RECORD_HEADER_BYTES + META.length;
const clock: Clock = { nowUs: () => 1_700_000_000_000_000 };

/** A disk that notes what is done to it and fails where a test wants it to. */
class RecordingDisk extends MemoryDisk {
  readonly events: string[] = [];
  readonly openFiles = new Set<DiskFile>();
  /** Throws to make a step fail. */
  fault: (step: string) => void = () => {};

  #note(step: string, place: string): void {
    const event = `${step} ${place.slice(place.lastIndexOf("/") + 1)}`;
    this.fault(event);
    this.events.push(event);
  }

  override open(place: string, options?: DiskOpenOptions): DiskFile {
    const inner = super.open(place, options);
    const note = (step: string) => this.#note(step, place);
    const file: DiskFile = {
      path: place,
      read: (offset, target) => inner.read(offset, target),
      write: (offset, ...parts) => {
        note("write");
        inner.write(offset, ...parts);
      },
      discard: (offset, length) => inner.discard(offset, length),
      reserve: (offset, length) => {
        note("reserve");
        inner.reserve(offset, length);
      },
      truncate: (sizeBytes) => {
        note("truncate");
        inner.truncate(sizeBytes);
      },
      sizeBytes: () => inner.sizeBytes(),
      seek: (offset, kind) => inner.seek(offset, kind),
      sync: async () => {
        note("sync");
        await inner.sync();
      },
      forgetCached: () => inner.forgetCached(),
      close: () => {
        assert.ok(this.openFiles.delete(file), `${place} is closed once`);
        inner.close();
      },
    };
    this.openFiles.add(file);
    return file;
  }

  override async syncDirectory(place: string): Promise<void> {
    this.#note("sync", place);
    await super.syncDirectory(place);
  }
}

function newWriter(disk: Disk, options: Partial<JournalWriterOptions> = {}): JournalWriter {
  return new JournalWriter(disk, {
    directory: FOLDER,
    volumeId: VOLUME,
    nextSegment: 1,
    lastSeq: 0,
    segmentBytes: 1 << 20,
    clock,
    describe: () => META,
    ...options,
  });
}

function change(seq: number, overrides: Partial<NewRecord> = {}): NewRecord {
  return {
    kind: "write",
    flags: 0,
    seq,
    timeUs: seq,
    offset: 0,
    length: 1,
    firstBlock: 0,
    client: 0,
    ...overrides,
  };
}

/** Blocks of which each is told from all others by its first bytes. */
function blocks(count: number, name: number): Uint8Array {
  const bytes = new Uint8Array(count * BLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count; i++) {
    bytes.fill((name * 31 + i) % 255 + 1, i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
    view.setUint32(i * BLOCK_BYTES, name * 100_000 + i);
  }
  return bytes;
}

function scanAll(
  disk: Disk,
  segment: number,
): { records: ScannedRecord[]; validBytes: number; fileBytes: number } {
  const reader = new SegmentReader(disk, FOLDER);
  const records: ScannedRecord[] = [];
  const { validBytes, fileBytes } = reader.scan(segment, 0, (record) => void records.push(record));
  reader.close();
  return { records, validBytes, fileBytes };
}

function segmentPath(segment: number): string {
  return `${FOLDER}/${segmentFileName(segment)}`;
}

/** Changes the bytes of a segment in place. */
function patch(disk: Disk, segment: number, work: (file: DiskFile) => void): void {
  const file = disk.open(segmentPath(segment), { mode: "write" });
  work(file);
  file.close();
}

function flip(disk: Disk, segment: number, offset: number, bit = 0): void {
  patch(disk, segment, (file) => {
    const byte = new Uint8Array(1);
    assert.equal(file.read(offset, byte), 1);
    file.write(offset, Uint8Array.of((byte[0] ?? 0) ^ 1 << bit));
  });
}

/** A journal of one closed segment with four records; tells where they lie. */
async function fourRecords(disk: Disk): Promise<RecordPlace[]> {
  const writer = newWriter(disk);
  const places = [
    writer.append(change(1), blocks(2, 1)),
    writer.append(change(2, { kind: "mark" }), new TextEncoder().encode('{"name":"é"}')),
    writer.append(change(3), blocks(3, 3)),
    writer.append(change(4, { kind: "flush" })),
  ];
  await writer.close();
  return places;
}

Deno.test("what was appended is scanned in order, with its text and its place", async () => {
  const disk = new MemoryDisk();
  const places = await fourRecords(disk);
  const { records, validBytes, fileBytes } = scanAll(disk, 1);
  assert.equal(validBytes, fileBytes);
  assert.deepEqual(records.map(({ header }) => [header.kind, header.seq]), [
    ["meta", 0],
    ["write", 1],
    ["mark", 2],
    ["write", 3],
    ["flush", 4],
  ]);
  assert.deepEqual(records.map(({ text }) => text), [META, undefined, '{"name":"é"}', undefined, undefined]);
  assert.deepEqual(records.slice(1).map(({ offset }) => offset), places.map(({ offset }) => offset));
  const reader = new SegmentReader(disk, FOLDER);
  assert.deepEqual([...reader.headers(1)].map(({ offset }) => offset), records.map(({ offset }) => offset));
  assert.deepEqual(reader.recordHeader(1, places[2]?.offset ?? 0), records[3]?.header);
  assert.throws(() => reader.recordHeader(1, 1), { name: "VarveError", code: "damaged" });
  assert.deepEqual(reader.header(1), {
    flags: 0,
    volumeId: VOLUME,
    segment: 1,
    previousSeq: 0,
    previousBaseline: 0,
    createdUs: clock.nowUs(),
  });
  const stopped = reader.scan(1, 0, ({ header }) => header.seq < 3);
  assert.equal(
    stopped.validBytes,
    places[2]?.offset,
    "a visit that answers false ends the scan before its record",
  );
  const seen: number[] = [];
  reader.scan(1, places[2]?.offset ?? 0, ({ header }) => void seen.push(header.seq));
  assert.deepEqual(seen, [3, 4], "a scan may begin at any record");
  reader.close();
});

/** Each way to be damaged, and how many records (the meta record among them) are then still whole. */
const DAMAGES: [string, number, (disk: Disk, places: RecordPlace[]) => void][] = [
  [
    "a torn header",
    3,
    (disk, places) => patch(disk, 1, (file) => file.truncate((places[2]?.offset ?? 0) + 40)),
  ],
  [
    "a torn table of checksums",
    3,
    (disk, places) =>
      patch(disk, 1, (file) => file.truncate((places[2]?.offset ?? 0) + RECORD_HEADER_BYTES + 5)),
  ],
  [
    "a torn body",
    3,
    (disk, places) => patch(disk, 1, (file) => file.truncate((places[2]?.offset ?? 0) + 9000)),
  ],
  [
    "a torn text",
    2,
    (disk, places) => patch(disk, 1, (file) => file.truncate((places[1]?.offset ?? 0) + 70)),
  ],
  [
    "a file cut at a record's start",
    3,
    (disk, places) => patch(disk, 1, (file) => file.truncate(places[2]?.offset ?? 0)),
  ],
  [
    "a zeroed middle",
    3,
    (disk, places) => patch(disk, 1, (file) => file.discard((places[2]?.offset ?? 0) + 4096, 4096)),
  ],
  [
    "zeroes in place of a whole record",
    1,
    (disk, places) => patch(disk, 1, (file) => file.discard(places[0]?.offset ?? 0, 8300)),
  ],
  ["a flipped bit in a text", 2, (disk, places) => flip(disk, 1, (places[1]?.offset ?? 0) + 66)],
  ["a record of another segment pasted in", 4, (disk, places) => {
    // The very same record at the very same place, but written to segment 2.
    const writer = newWriter(disk, { nextSegment: 2, lastSeq: 3 });
    const { offset } = writer.append(change(4, { kind: "flush" }));
    writer.commit();
    const bytes = new Uint8Array(RECORD_HEADER_BYTES);
    const other = disk.open(segmentPath(2));
    other.read(offset, bytes);
    other.close();
    patch(disk, 1, (file) => file.write(places[3]?.offset ?? 0, bytes));
  }],
  [
    "garbage behind the last record",
    5,
    (disk) => patch(disk, 1, (file) => file.write(file.sizeBytes(), new Uint8Array(100).fill(0x56))),
  ],
];

for (const [damage, whole, doDamage] of DAMAGES) {
  Deno.test(`a scan ends at ${damage}, and all before it stands`, async () => {
    const disk = new MemoryDisk();
    const places = await fourRecords(disk);
    const before = scanAll(disk, 1).records;
    doDamage(disk, places);
    const { records, validBytes } = scanAll(disk, 1);
    assert.deepEqual(records, before.slice(0, whole));
    const last = records.at(-1);
    assert.ok(last !== undefined);
    assert.equal(validBytes, last.offset + recordBytes(last.header));
  });
}

Deno.test("every single flipped bit in a record's header, table and payload ends a scan before the record", async () => {
  const disk = new MemoryDisk();
  const writer = newWriter(disk);
  const place = writer.append(change(1), blocks(1, 1));
  await writer.close();
  const end = scanAll(disk, 1).fileBytes;
  const reader = new SegmentReader(disk, FOLDER);
  // All bits of the header, the table and the payload's edges, and a sample of the rest.
  for (let at = place.offset; at < end; at += at < place.offset + 100 || at > end - 20 ? 1 : 97) {
    for (let bit = 0; bit < 8; bit++) {
      flip(disk, 1, at, bit);
      assert.equal(reader.scan(1, 0, () => {}).validBytes, place.offset, `byte ${at}, bit ${bit}`);
      flip(disk, 1, at, bit);
    }
  }
  assert.equal(reader.scan(1, 0, () => {}).validBytes, end);
  reader.close();
});

Deno.test("a segment whose header is torn, or of another number, holds nothing", async () => {
  const disk = new MemoryDisk();
  await fourRecords(disk);
  flip(disk, 1, 20);
  assert.equal(scanAll(disk, 1).validBytes, 0);
  flip(disk, 1, 20);
  disk.rename(segmentPath(1), segmentPath(2));
  assert.equal(scanAll(disk, 2).validBytes, 0);
  patch(disk, 2, (file) => file.truncate(SEGMENT_HEADER_BYTES - 1));
  const { validBytes, fileBytes } = scanAll(disk, 2);
  assert.deepEqual([validBytes, fileBytes], [0, SEGMENT_HEADER_BYTES - 1]);
});

Deno.test("JournalWriter begins another segment when one is full, and each describes its volume", async () => {
  const disk = new MemoryDisk();
  const writer = newWriter(disk, { nextSegment: 7, lastSeq: 100, segmentBytes: 3 * BLOCK_BYTES });
  assert.deepEqual(writer.position, { segment: 7, offset: SEGMENT_HEADER_BYTES });
  const places: RecordPlace[] = [];
  for (let seq = 101; seq <= 108; seq++) {
    places.push(writer.append(change(seq), blocks(1, seq)));
    assert.equal(writer.lastSeq, seq);
  }
  assert.deepEqual(places.map(({ segment }) => segment), [7, 7, 7, 8, 8, 8, 9, 9]);
  await writer.close();
  assert.deepEqual(
    writer.takeFinished().map(({ segment, firstSeq, lastSeq }) => [segment, firstSeq, lastSeq]),
    [[7, 101, 103], [8, 104, 106], [9, 107, 108]],
  );
  assert.deepEqual(writer.takeFinished(), []);
  for (const [segment, previousSeq] of [[7, 100], [8, 103], [9, 106]] as const) {
    const { records, validBytes, fileBytes } = scanAll(disk, segment);
    assert.equal(validBytes, fileBytes);
    assert.equal(records[0]?.text, META);
    assert.equal(records[0]?.header.seq, previousSeq);
    const reader = new SegmentReader(disk, FOLDER);
    assert.equal(reader.header(segment)?.previousSeq, previousSeq);
    reader.close();
  }
});

Deno.test("JournalWriter leaves out a number that was taken for another writer", async () => {
  const disk = new MemoryDisk();
  const writer = newWriter(disk);
  writer.append(change(1));
  assert.equal(writer.takeSegmentNumber(), 2);
  writer.seal();
  assert.equal(writer.append(change(2)).segment, 3);
  await writer.close();
});

Deno.test("JournalWriter's sequence is that of the last command, whatever else is appended", async () => {
  const writer = newWriter(new MemoryDisk());
  writer.append(change(5));
  writer.append(change(0, { kind: "baseline" }), blocks(1, 1));
  assert.equal(writer.lastSeq, 5);
  writer.append(change(5, { kind: "meta" }), new TextEncoder().encode("{}"));
  assert.equal(writer.lastSeq, 5);
  writer.seal();
  assert.deepEqual(writer.takeFinished().map(({ firstSeq, lastSeq }) => [firstSeq, lastSeq]), [[1, 5]]);
  await writer.close();
});

Deno.test("JournalWriter refuses when space cannot be reserved, leaves nothing behind, and goes on when there is some", async () => {
  const disk = new RecordingDisk();
  const writer = newWriter(disk);
  let full = true;
  disk.fault = (step) => {
    if (full && step.startsWith("reserve")) throw new VarveError("no-space", "reserve: full");
  };
  assert.throws(() => writer.append(change(1), blocks(1, 1)), { name: "VarveError", code: "no-space" });
  assert.deepEqual(disk.list(FOLDER), []);
  assert.equal(disk.openFiles.size, 0);
  assert.equal(writer.lastSeq, 0);
  full = false;
  const first = writer.append(change(1), blocks(1, 1));
  assert.deepEqual(
    first,
    { segment: 1, offset: SEGMENT_HEADER_BYTES + META_BYTES },
    "the number was not used up",
  );
  full = true;
  // The first reservation is used up within the segment: a later append is refused, and it alone.
  const { position } = writer;
  assert.throws(() => writer.append(change(2), new Uint8Array(12 << 20)), {
    name: "VarveError",
    code: "no-space",
  });
  assert.deepEqual(writer.position, position);
  const second = writer.append(change(2), blocks(1, 2));
  assert.deepEqual(second, position);
  await writer.close();
  const { records, validBytes, fileBytes } = scanAll(disk, 1);
  assert.deepEqual(records.map(({ header }) => header.seq), [0, 1, 2]);
  assert.equal(validBytes, fileBytes);
});

Deno.test("JournalWriter refuses all work after a failed write, and closing still closes its files", async () => {
  const disk = new RecordingDisk();
  const writer = newWriter(disk);
  writer.append(change(1), blocks(1, 1));
  disk.fault = (step) => {
    if (step.startsWith("write")) throw new VarveError("io", "write: broken");
  };
  assert.throws(() => writer.commit(), { name: "VarveError", code: "io" });
  disk.fault = () => {};
  assert.throws(() => writer.commit(), { code: "io" });
  assert.throws(() => writer.append(change(2)), { code: "io" });
  await assert.rejects(writer.sync(), { code: "io" });
  await writer.close();
  assert.equal(disk.openFiles.size, 0);
});

Deno.test("JournalWriter refuses all work after a failed sync, and closing still closes every file", async () => {
  const disk = new RecordingDisk();
  const writer = newWriter(disk, { segmentBytes: 1 });
  writer.append(change(1), blocks(1, 1));
  writer.append(change(2), blocks(1, 2));
  disk.fault = (step) => {
    if (step === "sync 000000000001.seg") throw new VarveError("io", "sync: broken");
  };
  await assert.rejects(writer.sync(), { name: "VarveError", code: "io" });
  disk.fault = () => {};
  assert.throws(() => writer.append(change(3)), { code: "io" });
  await writer.close();
  assert.equal(disk.openFiles.size, 0);
});

Deno.test("JournalWriter closes its files even when closing itself meets a failure", async () => {
  const disk = new RecordingDisk();
  const writer = newWriter(disk);
  writer.append(change(1), blocks(1, 1));
  disk.fault = (step) => {
    if (step.startsWith("write")) throw new VarveError("io", "write: broken");
  };
  await assert.rejects(writer.close(), { name: "VarveError", code: "io" });
  assert.equal(disk.openFiles.size, 0);
});

Deno.test("JournalWriter syncs the older segment before the newer and both before the folder", async () => {
  const disk = new RecordingDisk();
  const writer = newWriter(disk, { segmentBytes: 1 });
  writer.append(change(1), blocks(1, 1));
  writer.append(change(2), blocks(1, 2));
  disk.events.length = 0;
  await writer.sync();
  assert.deepEqual(disk.events, [
    "write 000000000002.seg",
    "truncate 000000000001.seg",
    "sync 000000000001.seg",
    "sync 000000000002.seg",
    "sync j",
  ]);
  disk.events.length = 0;
  writer.append(change(3), blocks(1, 3));
  await writer.sync();
  assert.deepEqual(disk.events.filter((event) => event.startsWith("sync")), [
    "sync 000000000002.seg",
    "sync 000000000003.seg",
    "sync j",
  ], "what was synced while it was the newest may have grown since");
  disk.events.length = 0;
  await writer.sync();
  assert.deepEqual(disk.events, ["sync 000000000003.seg"], "the folder has no new names");
  await writer.close();
  assert.equal(disk.openFiles.size, 0);
});

Deno.test("JournalWriter's sync covers a segment that was sealed while the sync before was under way", async () => {
  const disk = new MemoryDisk();
  const writer = newWriter(disk, { segmentBytes: 1 });
  writer.append(change(1), blocks(1, 1));
  let finish = () => {};
  disk.beforeSync = () => new Promise((resolve) => finish = resolve);
  const first = writer.sync();
  writer.append(change(2), blocks(1, 2));
  writer.commit();
  disk.beforeSync = () => Promise.resolve();
  finish();
  await first;
  await writer.sync();
  disk.cutPower();
  assert.deepEqual(scanAll(disk, 1).records.map(({ header }) => header.seq), [0, 1]);
  assert.deepEqual(scanAll(disk, 2).records.map(({ header }) => header.seq), [1, 2]);
});

Deno.test("JournalWriter hands large payloads to the kernel as they are, small ones with the commit", async () => {
  const disk = new RecordingDisk();
  const writer = newWriter(disk);
  const countWrites = () => disk.events.filter((event) => event.startsWith("write")).length;
  writer.append(change(1), blocks(31, 1));
  assert.equal(countWrites(), 0);
  const large = blocks(32, 2);
  const place = writer.append(change(2), large.subarray(0, BLOCK_BYTES), large.subarray(BLOCK_BYTES));
  assert.equal(countWrites(), 1);
  large.fill(0);
  writer.append(change(3, { kind: "mark" }), new Uint8Array(200_000).fill(0x61));
  for (let seq = 4; seq < 70; seq++) writer.append(change(seq), blocks(6, seq));
  await writer.close();
  const { records, validBytes, fileBytes } = scanAll(disk, 1);
  assert.equal(validBytes, fileBytes);
  assert.deepEqual(
    records.map(({ header }) => header.seq),
    Array.from({ length: records.length }, (_, i) => i),
  );
  assert.equal(records[3]?.text, "a".repeat(200_000));
  const reader = new SegmentReader(disk, FOLDER);
  const target = new Uint8Array(32 * BLOCK_BYTES);
  reader.readBlocks(
    { segment: 1, recordOffset: place.offset, payloadBlock: 0, blockCount: 32, seq: 2, firstBlock: 0 },
    target,
  );
  assert.deepEqual(target, blocks(32, 2));
  reader.close();
});

Deno.test("JournalWriter refuses a payload that no reader would take", async () => {
  const writer = newWriter(new MemoryDisk());
  const part = new Uint8Array(MAX_PAYLOAD_BYTES / 2);
  const block = new Uint8Array(BLOCK_BYTES);
  assert.throws(() => writer.append(change(1), part, part, block), { name: "VarveError", code: "invalid" });
  assert.equal(writer.lastSeq, 0);
  await writer.close();
});

Deno.test("SegmentReader returns exactly the blocks asked for, of small and of large records", async () => {
  const disk = new MemoryDisk();
  const writer = newWriter(disk);
  const sizes = [1, 2, 15, 16, 17, 18, 40];
  const places = sizes.map((size, i) => writer.append(change(i + 1), blocks(size, i)));
  await writer.close();
  const reader = new SegmentReader(disk, FOLDER);
  for (const [i, size] of sizes.entries()) {
    const whole = blocks(size, i);
    for (let payloadBlock = 0; payloadBlock < size; payloadBlock++) {
      for (const blockCount of new Set([1, Math.min(3, size - payloadBlock), size - payloadBlock])) {
        const target = new Uint8Array(blockCount * BLOCK_BYTES);
        reader.readBlocks({
          segment: 1,
          recordOffset: places[i]?.offset ?? 0,
          payloadBlock,
          blockCount,
          seq: i + 1,
          firstBlock: payloadBlock,
        }, target);
        const expected = whole.subarray(
          payloadBlock * BLOCK_BYTES,
          (payloadBlock + blockCount) * BLOCK_BYTES,
        );
        assert.ok(
          target.every((byte, at) => byte === expected[at]),
          `${size}: ${payloadBlock}+${blockCount}`,
        );
      }
    }
  }
  reader.close();
});

Deno.test("SegmentReader finds a flipped bit in the blocks it was asked for, and in no others", async () => {
  for (const size of [8, 40]) {
    const disk = new MemoryDisk();
    const writer = newWriter(disk);
    const place = writer.append(change(1), blocks(size, 1));
    await writer.close();
    const reader = new SegmentReader(disk, FOLDER);
    const read = (payloadBlock: number, blockCount: number) => {
      const target = new Uint8Array(blockCount * BLOCK_BYTES);
      reader.readBlocks({
        segment: 1,
        recordOffset: place.offset,
        payloadBlock,
        blockCount,
        seq: 1,
        firstBlock: payloadBlock,
      }, target);
    };
    const damaged = { name: "VarveError", code: "damaged" };
    const dataAt = place.offset + RECORD_HEADER_BYTES + size * 4;
    for (
      const at of [
        dataAt + 3 * BLOCK_BYTES,
        dataAt + 4 * BLOCK_BYTES - 1,
        place.offset + RECORD_HEADER_BYTES + 3 * 4,
      ]
    ) {
      flip(disk, 1, at);
      assert.throws(() => read(3, 1), damaged);
      assert.throws(() => read(0, size), damaged);
      read(0, 3);
      read(4, size - 4);
      flip(disk, 1, at);
    }
    flip(disk, 1, place.offset + 20);
    assert.throws(() => read(0, 1), damaged, "the header");
    flip(disk, 1, place.offset + 20);
    read(0, size);
    reader.close();
  }
});

Deno.test("SegmentReader refuses another sequence, blocks beyond the payload, text, and a torn record", async () => {
  const disk = new MemoryDisk();
  const places = await fourRecords(disk);
  const reader = new SegmentReader(disk, FOLDER);
  const target = new Uint8Array(BLOCK_BYTES);
  const run = {
    segment: 1,
    recordOffset: places[2]?.offset ?? 0,
    payloadBlock: 0,
    blockCount: 1,
    seq: 3,
    firstBlock: 0,
  };
  const damaged = { name: "VarveError", code: "damaged" };
  reader.readBlocks(run, target);
  assert.throws(() => reader.readBlocks({ ...run, seq: 2 }, target), damaged);
  assert.throws(() => reader.readBlocks({ ...run, firstBlock: 1 }, target), damaged, "another block");
  assert.throws(() => reader.readBlocks({ ...run, payloadBlock: 1 }, target), damaged, "another block");
  assert.throws(() => reader.readBlocks({ ...run, payloadBlock: 3, firstBlock: 3 }, target), damaged);
  assert.throws(
    () => reader.readBlocks({ ...run, recordOffset: places[1]?.offset ?? 0, seq: 2 }, target),
    damaged,
  );
  assert.throws(() => reader.readBlocks({ ...run, recordOffset: run.recordOffset + 1 }, target), damaged);
  patch(disk, 1, (file) => file.truncate(run.recordOffset + 5000));
  assert.throws(() => reader.readBlocks({ ...run, payloadBlock: 2, firstBlock: 2 }, target), damaged);
  assert.throws(() => reader.readBlocks({ ...run, segment: 9 }, target), {
    name: "VarveError",
    code: "not-found",
  });
  reader.close();
});

Deno.test("SegmentReader keeps a bounded number of files open and closes all of them", () => {
  const disk = new RecordingDisk();
  for (let segment = 1; segment <= 400; segment++) {
    const file = disk.open(segmentPath(segment), { mode: "create" });
    file.write(
      0,
      encodeSegmentHeader({
        flags: 0,
        volumeId: VOLUME,
        segment,
        previousSeq: 0,
        previousBaseline: 0,
        createdUs: 0,
      }),
    );
    file.close();
  }
  const reader = new SegmentReader(disk, FOLDER);
  for (let segment = 1; segment <= 400; segment++) assert.equal(reader.header(segment)?.segment, segment);
  const open = disk.openFiles.size;
  assert.ok(open <= 256, `${open} open`);
  reader.forget(400);
  reader.forget(1);
  assert.equal(disk.openFiles.size, open - 1);
  assert.equal(reader.header(400)?.segment, 400, "a forgotten segment is opened again");
  reader.close();
  assert.equal(disk.openFiles.size, 0);
});

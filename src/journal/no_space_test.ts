/** The journal on storage that gets full: where space can be reserved, and where it cannot. */
import assert from "node:assert/strict";
import { BLOCK_BYTES } from "../base/block_device.ts";
import { VarveError } from "../base/errors.ts";
import { type DiskFile, type DiskOpenOptions, MemoryDisk, type SpaceGuard } from "../disk/mod.ts";
import { JournalWriter, type NewRecord, segmentFileName, SegmentReader } from "./mod.ts";

const NO_SPACE = { name: "VarveError", code: "no-space" };

/** Storage that cannot reserve: only a write finds out that it is full. */
class UnreservedDisk extends MemoryDisk {
  override open(place: string, options?: DiskOpenOptions): DiskFile {
    const file = super.open(place, options);
    file.reserve = () => {};
    return file;
  }
}

function makeWriter(disk: MemoryDisk, space?: SpaceGuard): JournalWriter {
  return new JournalWriter(disk, {
    directory: "/j",
    volumeId: "00112233445566778899aabbccddeeff",
    nextSegment: 1,
    lastSeq: 0,
    segmentBytes: 1 << 20,
    clock: { nowUs: () => 1 },
    describe: () => "{}",
    ...(space === undefined ? {} : { space }),
  });
}

function record(writer: JournalWriter, kind: "write" | "flush", blocks = 0): NewRecord {
  const seq = writer.lastSeq + 1;
  return {
    kind,
    flags: 0,
    seq,
    timeUs: seq,
    offset: 0,
    length: blocks * BLOCK_BYTES,
    firstBlock: 0,
    client: 0,
  };
}

function write(writer: JournalWriter, blocks: number): void {
  writer.append(
    record(writer, "write", blocks),
    new Uint8Array(blocks * BLOCK_BYTES).fill(writer.lastSeq + 1),
  );
}

/** Sequences of all whole commands, in order. */
function sequences(disk: MemoryDisk): number[] {
  const reader = new SegmentReader(disk, "/j");
  const found: number[] = [];
  for (const segment of disk.list("/j").map((name) => parseInt(name))) {
    const { validBytes, fileBytes, unusedBytes } = reader.scan(segment, 0, ({ header }) => {
      if (header.kind !== "meta") found.push(header.seq);
    });
    assert.equal(validBytes + unusedBytes, fileBytes, `segment ${segment} has a tail that is no record`);
  }
  reader.close();
  return found;
}

function upTo(seq: number): number[] {
  return Array.from({ length: seq }, (_, index) => index + 1);
}

Deno.test("JournalWriter whose write finds the storage full keeps the records and writes them when there is space", async () => {
  const disk = new UnreservedDisk();
  disk.capacityBytes = 200 << 10;
  const writer = makeWriter(disk);
  write(writer, 3);
  writer.commit();
  for (let i = 0; i < 60; i++) write(writer, 1);
  assert.throws(() => writer.commit(), NO_SPACE);
  assert.deepEqual(sequences(disk), [1], "what was written in part is cut off");
  assert.throws(() => writer.commit(), NO_SPACE);
  assert(writer.isBuffered({ segment: 1, offset: 20_000 }));
  assert(!writer.isBuffered({ segment: 1, offset: 100 }));
  disk.capacityBytes = 400 << 10;
  await writer.sync();
  write(writer, 1);
  await writer.close();
  assert.deepEqual(sequences(disk), upTo(62));
});

Deno.test("JournalWriter takes nothing of a large record whose write finds the storage full", async () => {
  const disk = new UnreservedDisk();
  disk.capacityBytes = 200 << 10;
  const writer = makeWriter(disk);
  write(writer, 1);
  const { position } = writer;
  assert.throws(() => write(writer, 64), NO_SPACE);
  assert.equal(writer.lastSeq, 1);
  assert.deepEqual(writer.position, position);
  write(writer, 2);
  await writer.sync();
  assert.deepEqual(sequences(disk), [1, 2]);
  disk.capacityBytes = 1 << 20;
  write(writer, 64);
  await writer.close();
  assert.deepEqual(sequences(disk), [1, 2, 3]);
});

Deno.test("JournalWriter leaves no segment behind when there is no room to begin one", async () => {
  const disk = new MemoryDisk();
  disk.capacityBytes = 64 << 10;
  const writer = makeWriter(disk);
  assert.throws(() => write(writer, 1), NO_SPACE);
  assert.deepEqual(disk.list("/j"), []);
  disk.capacityBytes = 16 << 20;
  write(writer, 1);
  await writer.close();
  assert.deepEqual(disk.list("/j"), [segmentFileName(1)]);
  assert.deepEqual(sequences(disk), [1]);
});

Deno.test("JournalWriter keeps room for small records that data cannot take", async () => {
  const disk = new MemoryDisk();
  let grantedBytes = 1 << 20;
  const refuse = (): never => {
    throw new VarveError("no-space", "take: full");
  };
  const space: SpaceGuard = {
    sharesPrimary: true,
    isStarved: false,
    grant: (wanted, needed) => {
      if (needed > grantedBytes) refuse();
      const granted = Math.min(wanted, grantedBytes);
      grantedBytes -= granted;
      return granted;
    },
    grantSmall: refuse,
    relieve: () => false,
    owes: () => {},
    close: () => {},
  };
  const writer = makeWriter(disk, space);
  const fill = () => {
    for (;;) write(writer, 1);
  };
  assert.throws(fill, NO_SPACE);
  assert.equal(writer.refused, 1);
  assert(writer.unusedBytes >= 60 << 10, `${writer.unusedBytes} bytes are left`);
  const atWall = writer.lastSeq;
  assert(atWall > 200);
  let flushes = 0;
  assert.throws(() => {
    for (;; flushes++) writer.append(record(writer, "flush"));
  }, NO_SPACE);
  assert(flushes >= 900, `${flushes} flushes found room`);
  assert.equal(writer.refused, 1, "a flush is no refused write");
  grantedBytes = 8 << 20;
  write(writer, 1);
  await writer.close();
  assert.deepEqual(sequences(disk), upTo(atWall + flushes + 1));
});

import { deepEqual, equal, ok } from "node:assert/strict";
import { crc32 } from "node:zlib";
import { openGuestDisk } from "./guest_disk.ts";
import { readPartitionTable } from "./partition_table.ts";
import { attempt, Mutation, random } from "./_hostile.ts";
import { MemoryDevice, run, TemporaryFolder } from "./_test_support.ts";

const MIB = 1024 * 1024;
const SECTOR_BYTES = 512;

async function tableOf(folder: string, script: string): Promise<MemoryDevice> {
  const image = `${folder}/disk`;
  await run("truncate", "-s", "0", image);
  await run("truncate", "-s", "6M", image);
  await run("bash", "-c", `printf '${script}' | eatmydata sfdisk -q ${image}`);
  return new MemoryDevice(await Deno.readFile(image));
}

/** Makes the checksums of the first header of a GPT, and of its entries, hold again. */
function repair(mutation: Mutation, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer);
  const word = (value: number) => [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
  const header = SECTOR_BYTES;
  const length = Math.min(1024 * 1024, view.getUint32(header + 80, true) * view.getUint32(header + 84, true));
  const entries = Number(view.getBigUint64(header + 72, true)) * SECTOR_BYTES;
  if (entries + length <= bytes.length) {
    mutation.write(header + 88, word(crc32(bytes.subarray(entries, entries + length))));
  }
  mutation.write(header + 16, [0, 0, 0, 0]);
  const headerBytes = Math.min(SECTOR_BYTES, view.getUint32(header + 12, true));
  mutation.write(header + 16, word(crc32(bytes.subarray(header, header + headerBytes))));
}

const KINDS: readonly [kind: string, script: string][] = [
  ["gpt", "label: gpt\\nstart=2048,size=2048\\nstart=4096,size=2048\\n"],
  [
    "mbr",
    "label: dos\\nstart=2048,size=2048,type=83\\nstart=4096,size=8000,type=5\\nstart=4608,size=512\\nstart=6144,size=512\\n",
  ],
];

for (const [kind, script] of KINDS) {
  Deno.test(`partition table: 1,000 damaged tables (${kind}) give partitions or a reason`, async () => {
    await using folder = new TemporaryFolder();
    const device = await tableOf(folder.path, script);
    equal(readPartitionTable(device)?.table, kind);
    // So that nothing has to be proved empty; the places are between those of the tables.
    for (let at = 700; at < device.sizeBytes; at += 65_536) device.bytes[at] = 7;
    // Sectors of tables: the first ones, and those of the logical partitions.
    const sectors = kind === "gpt" ? [0, 1, 1, 2, 2, 12287, 12255] : [0, 0, 4096, 4096 + 1536];
    let read = 0;
    for (let seed = 1; seed <= 1000; seed++) {
      const next = random(seed);
      using mutation = new Mutation(device);
      for (let count = 1 + next(4); count > 0; count--) {
        const sector = sectors[next(sectors.length)] ?? 0;
        const within = sector === 0 || kind === "mbr" ? 446 + next(66) : next(sector === 2 ? 256 : 96);
        mutation.field(sector * SECTOR_BYTES + within, next);
      }
      if (kind === "gpt" && next(4) !== 0) repair(mutation, device.bytes);
      const found = attempt(() => readPartitionTable(device));
      if (found !== undefined) read++;
      ok(
        (found?.entries.length ?? 0) <= 8192 &&
          found?.entries.every(({ offset, length }) => offset > 0 && length > 0) !== false,
      );
      const { partitions } = openGuestDisk(device);
      for (const { fileSystem, reason } of partitions) {
        ok((fileSystem === undefined) === (reason !== undefined), `seed ${seed}`);
      }
    }
    ok(read > 200 && read < 1000, `${read} were read`);
  });
}

Deno.test("partition table: a chain of extended partitions gives each logical one its number", async () => {
  await using folder = new TemporaryFolder();
  const device = await tableOf(folder.path, KINDS[1]?.[1] ?? "");
  deepEqual(
    readPartitionTable(device)?.entries.map((
      { name, offset, length },
    ) => [name, offset / MIB, length / SECTOR_BYTES]),
    [
      ["p1", 1, 2048],
      ["p5", 2.25, 512],
      ["p6", 3, 512],
    ],
  );
});

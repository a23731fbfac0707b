import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import { noise, run, startServer } from "./_testing.ts";
import type { ExportMaps, MapRun } from "./exports.ts";

const MIB = 1024 * 1024;

function content(device: MemoryDevice): Uint8Array {
  const bytes = new Uint8Array(device.sizeBytes);
  device.read(0, bytes);
  return bytes;
}

Deno.test("interop: qemu-io writes, reads, forces, zeroes, discards and flushes", async () => {
  const device = new MemoryDevice(64 * MIB);
  await using started = await startServer({ disk: device });
  const commands = [
    "write -P 0x11 0 4M",
    "write -f -P 0x22 3234567 8901",
    "write -z 65536 131072",
    "write -z -u 262144 131072",
    "write -z -f 524288 1k",
    "discard 1M 512k",
    "aio_write -P 0x33 10M 1M",
    "aio_flush",
    "flush",
    "read -P 0x11 0 65536",
    "read -P 0 65536 131072",
    "read -P 0 262144 131072",
    "read -P 0x22 3234567 8901",
    "read -P 0x33 10M 1M",
    "read -P 0 63M 1M",
  ];
  const url = `nbd+unix:///disk?socket=${started.path}`;
  const output = await run("qemu-io", "-f", "raw", url, ...commands.flatMap((command) => ["-c", command]));
  assert.doesNotMatch(output, /fail|error/i);
  const bytes = content(device);
  assert.ok(bytes.subarray(MIB, MIB + 512 * 1024).every((byte) => byte === 0));
  assert.deepEqual(device.extents(63 * MIB, MIB), [{ offset: 63 * MIB, length: MIB, kind: "hole" }]);
  assert.equal(started.exports.opened, started.exports.closed);
});

Deno.test("interop: qemu-img converts to and from the server and compares", async () => {
  const device = new MemoryDevice(8 * MIB);
  await using started = await startServer({ "my disk": device });
  await Deno.writeFile(`${started.folder}/source.img`, noise(8 * MIB));
  const url = `nbd+unix:///my%20disk?socket=${started.path}`;
  await run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", `${started.folder}/source.img`, url);
  assert.deepEqual(content(device), noise(8 * MIB));
  await run("qemu-img", "compare", "-f", "raw", "-F", "raw", `${started.folder}/source.img`, url);
});

Deno.test("interop: nbdinfo sees size, flags, block sizes and the list", async () => {
  const devices = {
    "disk": new MemoryDevice(3 * MIB + 1),
    "disk@2026-11-22 10:15:00": new MemoryDevice(MIB, { readOnly: true }),
  };
  await using started = await startServer(devices);
  const base = `?socket=${started.path}`;
  const [disk] = JSON.parse(await run("nbdinfo", "--json", `nbd+unix:///disk${base}`)).exports;
  const expected = {
    "export-name": "disk",
    "description": "about disk",
    "export-size": 3 * MIB + 1,
    "is_read_only": false,
    "can_fast_zero": true,
    "can_flush": true,
    "can_fua": true,
    "can_multi_conn": true,
    "can_trim": true,
    "can_zero": true,
    "can_cache": true,
    "block_size_minimum": 1,
    "block_size_preferred": 4096,
    "block_size_maximum": 32 * MIB,
  };
  for (const [name, value] of Object.entries(expected)) assert.deepEqual(disk[name], value, name);
  const list = JSON.parse(await run("nbdinfo", "--list", "--json", `nbd+unix://${base}`)).exports;
  assert.deepEqual(
    list.map((one: Record<string, unknown>) => [one["export-name"], one["export-size"], one["is_read_only"]]),
    [["disk", 3 * MIB + 1, false], ["disk@2026-11-22 10:15:00", MIB, true]],
  );
  await assert.rejects(
    run("nbdinfo", `nbd+unix:///nothing${base}`),
    /No such file or directory for export: nothing/,
  );
});

Deno.test("interop: nbdcopy copies both ways over four connections", async () => {
  const data = noise(24 * MIB);
  data.fill(0, 4 * MIB, 12 * MIB);
  const device = new MemoryDevice(data.length);
  await using started = await startServer({ disk: device });
  await Deno.writeFile(`${started.folder}/source.img`, data);
  const tcp = await started.server.listen("127.0.0.1:0");
  const unix = `nbd+unix:///disk?socket=${started.path}`;
  await run("nbdcopy", "--threads=4", "--connections=4", "--flush", `${started.folder}/source.img`, unix);
  assert.deepEqual(content(device), data);
  assert.ok(started.exports.opened >= 4);
  await run("nbdcopy", "--threads=4", "--connections=4", `nbd://${tcp}/disk`, `${started.folder}/target.img`);
  assert.deepEqual(await Deno.readFile(`${started.folder}/target.img`), data);
});

Deno.test("interop: fio verifies what it wrote at random", async () => {
  await using started = await startServer({ disk: new MemoryDevice(16 * MIB) });
  await Deno.writeTextFile(
    `${started.folder}/job.fio`,
    `[verify]
ioengine=nbd
uri=nbd+unix:///disk?socket=${started.path}
rw=randwrite
bsrange=512-64k
blockalign=512
size=16m
iodepth=16
verify=crc32c
verify_state_save=0
fsync=32
randseed=7
`,
  );
  const output = await run("fio", `${started.folder}/job.fio`);
  assert.match(output, /err= 0/);
});

/** A volume of which the first MiB and a block further on are data. */
function sparse(): MemoryDevice {
  const device = new MemoryDevice(8 * MIB);
  device.write(0, noise(MIB));
  device.write(5 * MIB, noise(4096));
  return device;
}

const SINCE = "qemu:dirty-bitmap:since-10m ago";

/** Tells that the second MiB has changed. */
const changes: ExportMaps = {
  list: () => [SINCE],
  open(name) {
    if (!name.startsWith("qemu:dirty-bitmap:since-")) return Promise.resolve(undefined);
    const runs = (offset: number, length: number, max: number) => {
      const found: MapRun[] = [];
      for (let at = offset; at < offset + length && found.length < max;) {
        const dirty = at >= MIB && at < 2 * MIB;
        const until = at < MIB ? MIB : dirty ? 2 * MIB : Infinity;
        const end = Math.min(until, offset + length);
        found.push({ length: end - at, flags: dirty ? 1 : 0 });
        at = end;
      }
      return Promise.resolve(found);
    };
    return Promise.resolve({ runs });
  },
};

Deno.test("interop: nbdinfo tells what an export can do and maps it", async () => {
  const past = new MemoryDevice(MIB, { readOnly: true });
  await using started = await startServer({ disk: sparse(), past }, { maps: changes });
  const url = `nbd+unix:///disk?socket=${started.path}`;
  for (
    const ability of [
      "connect",
      "structured-reply",
      "df",
      "cache",
      "fast-zero",
      "flush",
      "fua",
      "multi-conn",
      "trim",
      "write",
      "zero",
    ]
  ) {
    await run("nbdinfo", `--can=${ability}`, url);
  }
  await run("nbdinfo", "--is=read-only", `nbd+unix:///past?socket=${started.path}`);
  const map = JSON.parse(await run("nbdinfo", "--map", "--json", url));
  assert.deepEqual(
    map.map(({ offset, length, type }: Record<string, number>) => [offset, length, type]),
    [[0, MIB, 0], [MIB, 4 * MIB, 3], [5 * MIB, 4096, 0], [5 * MIB + 4096, 3 * MIB - 4096, 3]],
  );
  const changed = JSON.parse(await run("nbdinfo", `--map=${SINCE}`, "--json", url));
  assert.deepEqual(
    changed.map(({ offset, length, type }: Record<string, number>) => [offset, length, type]),
    [[0, MIB, 0], [MIB, MIB, 1], [2 * MIB, 6 * MIB, 0]],
  );
  const [disk] = JSON.parse(await run("nbdinfo", "--json", url)).exports;
  assert.deepEqual(disk.contexts, ["base:allocation", SINCE]);
});

Deno.test("interop: qemu-img maps holes and dirty bitmaps", async () => {
  await using started = await startServer({ disk: sparse() }, { maps: changes });
  const image = {
    driver: "raw",
    file: { driver: "nbd", export: "disk", server: { type: "unix", path: started.path } },
  };
  const map = async (file: Record<string, unknown>) =>
    JSON.parse(await run("qemu-img", "map", "--output=json", `json:${JSON.stringify({ ...image, file })}`));
  const zeroes = (await map(image.file)).map((one: Record<string, unknown>) => [one["start"], one["zero"]]);
  assert.deepEqual(zeroes, [[0, false], [MIB, true], [5 * MIB, false], [5 * MIB + 4096, true]]);
  const found = await map({ ...image.file, "x-dirty-bitmap": SINCE });
  // qemu shows a dirty range as one that is not data.
  assert.deepEqual(
    found.map((one: Record<string, unknown>) => [one["start"], one["length"], one["data"]]),
    [[0, MIB, true], [MIB, MIB, false], [2 * MIB, 6 * MIB, true]],
  );
});

Deno.test("interop: nbdcopy copies a sparse past by its holes", async () => {
  const content = new Uint8Array(8 * MIB);
  sparse().read(0, content);
  const past = sparse();
  Object.defineProperty(past, "readOnly", { value: true });
  let readBytes = 0;
  const read = past.read.bind(past);
  past.read = (offset, target) => {
    readBytes += target.length;
    read(offset, target);
  };
  await using started = await startServer({ past });
  await run("nbdcopy", `nbd+unix:///past?socket=${started.path}`, `${started.folder}/target.img`);
  assert.deepEqual(await Deno.readFile(`${started.folder}/target.img`), content);
  assert.ok(readBytes < 2 * MIB, `${readBytes} bytes read of 1 MiB and a block`);
});

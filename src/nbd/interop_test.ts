import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import { noise, run, startServer } from "./_testing.ts";

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

Deno.test("interop: libnbd without its strict mode meets the protocol's errors and goes on", async () => {
  const device = new MemoryDevice(MIB);
  await using started = await startServer({
    disk: device,
    past: new MemoryDevice(MIB, { readOnly: true }),
  });
  const script = `
import errno, nbd, sys
path = sys.argv[1]

def refused(expected, call, *args):
    try:
        call(*args)
    except nbd.Error as ex:
        assert ex.errnum == expected, (ex, expected)
        return
    raise AssertionError("not refused: %s %s" % (call, args))

h = nbd.NBD()
h.set_strict_mode(0)
h.set_export_name("disk")
h.connect_unix(path)
assert h.get_size() == 1048576 and h.can_multi_conn() and not h.is_read_only()
h.pwrite(b"", 0)
assert h.pread(0, 5) == b""
h.trim(0, 0)
h.zero(0, 0)
h.pwrite(b"unaligned", 4093, nbd.CMD_FLAG_FUA)
assert h.pread(11, 4092) == b"\\0unaligned\\0"
refused(errno.EINVAL, h.pread, 512, 1048576 - 511)
refused(errno.ENOSPC, h.pwrite, b"x" * 512, 1048576 - 511)
refused(errno.ENOSPC, h.zero, 512, 1048576 - 511)
refused(errno.EINVAL, h.trim, 512, 1048576 - 511)
refused(errno.EINVAL, h.pread, 512, (1 << 63) - 512)
refused(errno.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_DF)
refused(errno.EINVAL, h.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
refused(errno.EINVAL, h.flush, 0x8000)
refused(errno.EINVAL, h.pwrite, b"y" * 512, 0, 0x4000)
h.zero(4, 4094, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert h.pread(11, 4092) == b"\\0u\\0\\0\\0\\0gned\\0"
h.flush()
h.shutdown()

h = nbd.NBD()
h.set_strict_mode(0)
h.set_export_name("past")
h.connect_unix(path)
assert h.is_read_only()
refused(errno.EPERM, h.pwrite, b"x", 0)
refused(errno.EPERM, h.zero, 1, 0)
refused(errno.EPERM, h.trim, 1, 0)
h.flush()
h.shutdown()

h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix(path)
h.set_export_name("nothing")
for attempt in range(3):
    try:
        h.opt_go()
        raise AssertionError("went")
    except nbd.Error:
        pass
names = []
h.opt_list(lambda name, description: names.append((name, description)) or 0)
assert names == [("disk", "about disk"), ("past", "about past")], names
h.set_export_name("disk")
h.opt_info()
h.opt_info()
assert h.get_size() == 1048576
try:
    h.opt_list_meta_context(lambda name: 0)
    raise AssertionError("listed")
except nbd.Error:
    pass
h.set_export_name("past")
h.opt_info()
h.opt_go()
assert h.is_read_only() and h.pread(3, 0) == b"\\0\\0\\0"
h.shutdown()

h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix(path)
h.opt_abort()
print("done")
`;
  assert.equal(await run("/usr/bin/python3", "-c", script, started.path), "done\n");
});

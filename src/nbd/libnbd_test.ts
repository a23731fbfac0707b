import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import { run, startServer } from "./_testing.ts";
import type { ExportMaps } from "./exports.ts";

const MIB = 1024 * 1024;

/** Every script begins with this: the socket's path and a check that a call is refused with an errno. */
const PRELUDE = `
import errno, nbd, sys
path = sys.argv[1]

def refused(expected, call, *args):
    try:
        call(*args)
    except nbd.Error as ex:
        assert ex.errnum == expected, (ex, expected)
        return
    raise AssertionError("not refused: %s %s" % (call, args))

def fails(call, *args):
    try:
        call(*args)
    except nbd.Error:
        return
    raise AssertionError("not refused: %s %s" % (call, args))

def opting():
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.set_opt_mode(True)
    h.connect_unix(path)
    return h
`;

async function runScript(script: string, path: string): Promise<void> {
  assert.equal(await run("/usr/bin/python3", "-c", `${PRELUDE}${script}\nprint("done")\n`, path), "done\n");
}

const maps: ExportMaps = {
  list: () => ["qemu:dirty-bitmap:since-a b"],
  open: (name) =>
    Promise.resolve(
      name.startsWith("qemu:dirty-bitmap:since-")
        ? { runs: (_offset, length) => Promise.resolve([{ length, flags: 1 }]) }
        : undefined,
    ),
};

const servers = () =>
  startServer({ disk: new MemoryDevice(MIB), past: new MemoryDevice(MIB, { readOnly: true }) }, { maps });

Deno.test("libnbd: without its strict mode it meets the protocol's errors and goes on, with either form of replies", async () => {
  for (const structured of ["False", "True"]) {
    await using started = await servers();
    await runScript(
      `
h = nbd.NBD()
h.set_strict_mode(0)
h.set_request_structured_replies(${structured})
h.set_export_name("disk")
h.connect_unix(path)
assert h.get_structured_replies_negotiated() == ${structured} and h.can_df() == ${structured}
assert h.get_size() == 1048576 and h.can_multi_conn() and not h.is_read_only()
h.pwrite(b"", 0)
h.pread(0, 5)
h.trim(0, 0)
h.zero(0, 0)
h.cache(0, 0)
h.pwrite(b"unaligned", 4093, nbd.CMD_FLAG_FUA)
assert h.pread(11, 4092) == b"\\0unaligned\\0"
h.cache(1048576, 0)
refused(errno.EINVAL, h.pread, 512, 1048576 - 511)
refused(errno.ENOSPC, h.pwrite, b"x" * 512, 1048576 - 511)
refused(errno.ENOSPC, h.zero, 512, 1048576 - 511)
refused(errno.EINVAL, h.trim, 512, 1048576 - 511)
refused(errno.EINVAL, h.cache, 512, 1048576 - 511)
refused(errno.EINVAL, h.pread, 512, (1 << 63) - 512)
refused(errno.EINVAL, h.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
refused(errno.EINVAL, h.flush, 0x8000)
refused(errno.EINVAL, h.cache, 1, 0, 0x8000)
refused(errno.EINVAL, h.pwrite, b"y" * 512, 0, 0x4000)
if ${structured}:
    assert h.pread(11, 4092, nbd.CMD_FLAG_DF) == b"\\0unaligned\\0"
else:
    refused(errno.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_DF)
h.zero(4, 4094, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.zero(1, 4098, nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(11, 4092) == b"\\0u\\0\\0\\0\\0\\0ned\\0"
h.flush()
h.shutdown()

h = nbd.NBD()
h.set_strict_mode(0)
h.set_request_structured_replies(${structured})
h.set_export_name("past")
h.connect_unix(path)
assert h.is_read_only() and not h.can_fast_zero() and h.can_cache()
refused(errno.EPERM, h.pwrite, b"x", 0)
refused(errno.EPERM, h.zero, 1, 0)
refused(errno.EPERM, h.trim, 1, 0)
seen = []
if ${structured}:
    h.pread_structured(131072, 5, lambda data, offset, status, error: seen.append((len(data), offset, status)))
    assert seen == [(131072, 5, nbd.READ_HOLE)], seen
h.flush()
h.shutdown()
`,
      started.path,
    );
  }
});

Deno.test("libnbd: maps with several contexts, REQ_ONE, and the errors of block status", async () => {
  await using started = await servers();
  await runScript(
    `
h = nbd.NBD()
h.set_strict_mode(0)
h.add_meta_context("base:allocation")
h.add_meta_context("qemu:dirty-bitmap:since-10m ago")
h.add_meta_context("x-nothing:here")
h.set_export_name("disk")
h.connect_unix(path)
assert h.can_meta_context("base:allocation") and h.can_meta_context("qemu:dirty-bitmap:since-10m ago")
assert not h.can_meta_context("x-nothing:here")
h.pwrite(b"x" * 4096, 8192)
def status(length, offset, flags=0):
    found = {}
    h.block_status(length, offset, lambda name, at, entries, err: found.update({name: (at, entries)}), flags)
    return found
assert status(1048576, 0) == {
    "base:allocation": (0, [8192, 3, 4096, 0, 1036288, 3]),
    "qemu:dirty-bitmap:since-10m ago": (0, [1048576, 1]),
}
assert status(1048576 - 9000, 9000, nbd.CMD_FLAG_REQ_ONE)["base:allocation"] == (9000, [3288, 0])
refused(errno.EINVAL, status, 0, 5)
refused(errno.EINVAL, status, 2, 1048575)
refused(errno.EINVAL, status, 2, 0, nbd.CMD_FLAG_DF)
assert status(1, 1048575)["base:allocation"] == (1048575, [1, 3])
h.shutdown()

h = nbd.NBD()
h.set_strict_mode(0)
h.set_export_name("disk")
h.connect_unix(path)
fails(h.block_status, 512, 0, lambda *args: 0)
h.pread(1, 0)
h.shutdown()
`,
    started.path,
  );
});

Deno.test("libnbd: options in every order, legal or not, and exports that do not exist", async () => {
  await using started = await servers();
  await runScript(
    `
h = opting()
h.set_export_name("nothing")
for attempt in range(3):
    fails(h.opt_go)
    fails(h.opt_info)
names = []
h.opt_list(lambda name, description: names.append((name, description)) or 0)
assert names == [("disk", "about disk"), ("past", "about past")], names
fails(h.opt_list_meta_context, lambda name: 0)
h.set_export_name("disk")
h.opt_info()
h.opt_info()
assert h.get_size() == 1048576
contexts = []
assert h.opt_list_meta_context(lambda name: contexts.append(name) or 0) == 2
assert contexts == ["base:allocation", "qemu:dirty-bitmap:since-a b"], contexts
h.add_meta_context("qemu:")
contexts = []
assert h.opt_list_meta_context(lambda name: contexts.append(name) or 0) == 1
h.set_export_name("past")
h.opt_info()
h.opt_go()
assert h.is_read_only() and h.pread(3, 0) == b"\\0\\0\\0"
fails(h.opt_info)
h.shutdown()

opting().opt_abort()

h = opting()
for round in range(20):
    for name in ["disk", "nothing", "past", ""]:
        h.set_export_name(name)
        try:
            h.opt_info()
        except nbd.Error:
            pass
        h.opt_list(lambda name, description: 0)
h.set_export_name("disk")
h.opt_go()
h.pwrite(b"z", 7)
h.shutdown()

h = nbd.NBD()
h.set_handshake_flags(0)
h.set_export_name("disk")
h.connect_unix(path)
assert h.get_size() == 1048576 and h.pread(1, 7) == b"z"
h.shutdown()
for flags in [nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE, nbd.HANDSHAKE_FLAG_NO_ZEROES]:
    h = nbd.NBD()
    h.set_handshake_flags(flags)
    h.set_export_name("disk")
    h.connect_unix(path)
    assert h.pread(1, 7) == b"z"
    h.shutdown()
`,
    started.path,
  );
  assert.equal(started.exports.opened, started.exports.closed);
});

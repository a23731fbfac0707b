import assert from "node:assert/strict";
import { MemoryDevice } from "../src/base/memory_device.ts";
import { VarveError } from "../src/base/errors.ts";
import { mountToys, shell } from "./_mounting.ts";
import { patternByte, type ToyInode, type ToyMoment, wholeDisk } from "./_testing.ts";

const TIME = "2026-11-22T10:15:00.123456Z";

/** One volume `v` with one moment, 1. */
function oneMoment(inodes: Record<number, ToyInode>, more: Partial<ToyMoment> = {}) {
  return { v: { moments: { 1: { time: TIME, disk: wholeDisk(inodes), ...more } } } };
}

Deno.test("a mount shows types, modes, owners, times, links and link counts of the guest", async () => {
  await using mounted = await mountToys(oneMoment({
    2: {
      mode: 0o1777,
      uid: 7,
      names: { file: 3, same: 3, link: 4, fifo: 5, disk: 6, tty: 7, socket: 8, folder: 9, empty: 10 },
    },
    3: { content: "hello\n", mode: 0o6751, uid: 1001, gid: 1002, links: 2, modifiedNs: 1_000_000_001n },
    4: { type: "symlink", content: "folder/../file", mode: 0o777 },
    5: { type: "fifo" },
    6: { type: "block", rdev: 0x801 },
    7: { type: "character", rdev: 0x503 },
    8: { type: "socket" },
    9: { names: {}, links: 2, modifiedNs: -1n },
    10: { mode: 0 },
  }));
  assert.equal(
    await mounted.sh(`cd v/at/now; stat -c '%n %F %a %u:%g %h %s %t,%T' . *`),
    [
      ". directory 1777 7:0 2 0 0,0",
      "disk block special file 644 0:0 1 0 8,1",
      "empty regular empty file 0 0:0 1 0 0,0",
      "fifo fifo 644 0:0 1 0 0,0",
      "file regular file 6751 1001:1002 2 6 0,0",
      "folder directory 755 0:0 2 0 0,0",
      "link symbolic link 777 0:0 1 14 0,0",
      "same regular file 6751 1001:1002 2 6 0,0",
      "socket socket 644 0:0 1 0 0,0",
      "tty character special file 644 0:0 1 0 5,3",
    ].join("\n"),
  );
  assert.equal(
    await mounted.sh(
      `cd v/at/now; stat -c '%y' file folder; readlink link; cat link; [ file -ef same ] && echo same`,
    ),
    "1970-01-01 00:00:01.000000001 +0000\n1969-12-31 23:59:59.999999999 +0000\nfolder/../file\nhello\nsame",
  );
  assert.equal(
    await mounted.sh("find v/at/now | sort | tr '\\n' ' '; ls -f v/at/now | head -3"),
    [
      "v/at/now v/at/now/disk v/at/now/empty v/at/now/fifo v/at/now/file v/at/now/folder v/at/now/link " +
      "v/at/now/same v/at/now/socket v/at/now/tty .",
      "..",
      "file",
    ].join("\n"),
  );
});

Deno.test("a mount reads any part of a file", async () => {
  await using mounted = await mountToys(oneMoment({
    2: { names: { pattern: 3, text: 4 } },
    3: { patternBytes: 3_000_001 },
    4: { content: "one\ntwo\nthree\n" },
  }));
  const local = `${mounted.path}/../pattern`;
  await Deno.writeFile(local, Uint8Array.from({ length: 3_000_001 }, (_, offset) => patternByte(offset)));
  try {
    assert.equal(
      await mounted.sh(`
        cd v/at/now
        cmp pattern ../../../../pattern && echo whole
        tail -c 6 text
        tail -c 100001 pattern | cmp - ../../../../pattern 0 2900000 && echo tail
        for size in 1 511 4096 65537 1048576; do
          dd if=pattern bs=$size skip=1 count=1 status=none | cmp -n $size - ../../../../pattern 0 $size && echo $size
        done
        dd if=pattern bs=1M iflag=direct status=none | cmp - ../../../../pattern && echo direct
        dd if=pattern bs=4000000 skip=1 status=none | wc -c
      `),
      "whole\nthree\ntail\n1\n511\n4096\n65537\n1048576\ndirect\n0",
    );
  } finally {
    await Deno.remove(local);
  }
});

Deno.test("names are bytes", async () => {
  await using mounted = await mountToys(oneMoment({
    2: { names: { "caf\xe9": 3, "a\xffb\x01": 3, "bad/name": 3, "": 3, "..": 3 } },
    3: { content: "x" },
  }));
  assert.equal(
    await mounted.sh(`cd v/at/now; ls -b; cat "$(printf 'caf\\351')"; cat cafe`),
    "a\\377b\\001\ncaf\\351\nxcat: cafe: No such file or directory",
  );
});

Deno.test("extended attributes and ACLs are the guest's, and the host obeys the ACLs", async () => {
  // Version 2; owner rw-, user 65534 r--, group ---, mask r--, other ---.
  const acl = new Uint8Array([
    ...[2, 0, 0, 0],
    ...[1, 0, 6, 0, 255, 255, 255, 255],
    ...[2, 0, 4, 0, 254, 255, 0, 0],
    ...[4, 0, 0, 0, 255, 255, 255, 255],
    ...[16, 0, 4, 0, 255, 255, 255, 255],
    ...[32, 0, 0, 0, 255, 255, 255, 255],
  ]);
  await using mounted = await mountToys(oneMoment({
    2: { names: { plain: 3, tagged: 4, shared: 5 } },
    3: {},
    4: { xattrs: { "user.one": "1", "user.two": new Uint8Array(3000).fill(0x41) } },
    5: { mode: 0o640, content: "for nobody\n", xattrs: { "system.posix_acl_access": acl } },
  }));
  assert.equal(
    await mounted.sh(`
      cd v/at/now
      getfattr -d plain; getfattr tagged; getfattr -n user.one --only-values tagged; echo
      getfattr -n user.two --only-values tagged | wc -c
      getfattr -n user.none tagged
      getfacl -nc shared
      setpriv --reuid=65534 --regid=65534 --clear-groups cat shared
      setpriv --reuid=65533 --regid=65533 --clear-groups cat shared
    `),
    [
      "# file: tagged",
      "user.one",
      "user.two",
      "",
      "1",
      "3000",
      "tagged: user.none: No such attribute",
      "user::rw-",
      "user:65534:r--",
      "group::---",
      "mask::r--",
      "other::---",
      "",
      "for nobody",
      "cat: shared: Permission denied",
    ].join("\n"),
  );
});

Deno.test("the host enforces modes for other users", async () => {
  await using mounted = await mountToys(oneMoment({
    2: { names: { secret: 3, open: 4, locked: 5 } },
    3: { content: "secret", mode: 0o600 },
    4: { content: "open\n", mode: 0o644 },
    5: { names: { open: 4 }, mode: 0o700 },
  }));
  assert.equal(
    await mounted.sh(`
      as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
      as_nobody cat v/at/now/open v/at/now/secret v/at/now/locked/open
      as_nobody head -c 1 v/images/mark:none.img v/images/seq:1.img
      cat v/at/now/locked/open
    `),
    [
      "open",
      "cat: v/at/now/secret: Permission denied",
      "cat: v/at/now/locked/open: Permission denied",
      "head: cannot open 'v/images/mark:none.img' for reading: No such file or directory",
      "head: cannot open 'v/images/seq:1.img' for reading: Permission denied",
      "open",
    ].join("\n"),
  );
});

Deno.test("every change is refused as read-only", async () => {
  await using mounted = await mountToys(
    oneMoment({ 2: { names: { file: 3, folder: 4 } }, 3: {}, 4: { names: {} } }),
  );
  const output = await mounted.sh(`
    cd v/at/now
    touch file; touch new; mkdir new; rm file; rmdir folder; mv file other; ln file other; ln -s a b
    chmod 1 file; chown 1 file; truncate -s 0 file; setfattr -n user.a -v 1 file; mkfifo pipe
    : > file
  `);
  const lines = output.split("\n");
  assert.equal(lines.length, 14, output);
  for (const line of lines) assert.match(line, /Read-only file system$/);
});

Deno.test("a folder of 10,000 names is listed completely", async () => {
  const names = Object.fromEntries(
    Array.from({ length: 10_000 }, (_, index) => [`file-${index}`, index + 3]),
  );
  const files = Object.fromEntries(Object.values(names).map((inode) => [inode, { content: `${inode}` }]));
  await using mounted = await mountToys(oneMoment({ 2: { names }, ...files }));
  assert.equal(
    await mounted.sh(`
      cd v/at/seq:1
      ls | wc -l; ls -f | sort -u | wc -l; ls -l | wc -l; ls -i | sort -u | wc -l
      find . -type f | wc -l; find . -size -2 -name 'file-9?' | wc -l; cat file-9999
    `),
    "10000\n10002\n10001\n10000\n10000\n10\n10002",
  );
});

Deno.test("a damaged inode shows as an error and hides nothing else", async () => {
  const broken = new VarveError("damaged", "Read inode 4: checksum mismatch");
  await using mounted = await mountToys(oneMoment({
    2: { names: { good: 3, bad: 4, gone: 99, other: 5 } },
    3: { content: "good\n" },
    4: { broken },
    5: { broken: new VarveError("unsupported", "Read inode 5: encrypted") },
  }));
  assert.equal(
    await mounted.sh(`cd v/at/now; ls; cat good bad gone other`),
    [
      "bad\ngone\ngood\nother\ngood",
      "cat: bad: Input/output error",
      "cat: gone: No such file or directory",
      "cat: other: Operation not supported",
    ].join("\n"),
  );
});

Deno.test("an image is sparse, and reads the same at every block size", async () => {
  const device = new MemoryDevice(300 * 1024 ** 2 + 512);
  const pieces = [[0, 5000], [100_000_000, 2_000_000], [300 * 1024 ** 2 - 100, 612]] as const;
  const local = await Deno.makeTempDir();
  try {
    const copy = await Deno.open(`${local}/copy.img`, { write: true, create: true });
    await copy.truncate(device.sizeBytes);
    for (const [offset, length] of pieces) {
      const data = Uint8Array.from({ length }, (_, index) => patternByte(offset + index) | 1);
      device.write(offset, data);
      await copy.seek(offset, Deno.SeekMode.Start);
      await copy.write(data);
    }
    copy.close();
    await using mounted = await mountToys(oneMoment({ 2: { names: {} } }, { device }));
    assert.equal(
      await mounted.sh(`
        cd v/images; image=$(ls)
        echo $image; stat -c '%a %s' $image; [ $(stat -c %b $image) -lt 4200 ] && echo sparse
        for size in 64K 1M 7M; do dd if=$image bs=$size status=none | cmp - ${local}/copy.img && echo $size; done
        cp --sparse=auto $image ${local}/again.img
        cmp $image ${local}/again.img && [ $(stat -c %b ${local}/again.img) -lt 4200 ] && echo copied
        tail -c 600 $image | cmp - ${local}/copy.img 0 $((300 * 1024 * 1024 + 512 - 600)) && echo tail
      `),
      "2026-11-22T10:15:00.123Z.img\n400 314573312\nsparse\n64K\n1M\n7M\ncopied\ntail",
    );
  } finally {
    await Deno.remove(local, { recursive: true });
  }
});

Deno.test("many readers at once get what they asked for", async () => {
  const files = Object.fromEntries(
    Array.from({ length: 8 }, (_, index) => [index + 3, { patternBytes: 2_000_000 }]),
  );
  const names = Object.fromEntries(Object.keys(files).map((inode) => [`f${inode}`, Number(inode)]));
  await using mounted = await mountToys(oneMoment({ 2: { names }, ...files }));
  const sums = await Promise.all(
    Object.keys(names).map((name) => mounted.sh(`cat v/at/now/${name} v/points/*/${name} | sha256sum`)),
  );
  assert.equal(new Set(sums).size, 1);
});

Deno.test("file-system numbers come from the guest", async () => {
  await using mounted = await mountToys(oneMoment({ 2: { names: {} } }));
  assert.equal(
    await mounted.sh(`stat -f -c '%s %b %f %a %c %d %l' v/at/now .`),
    "1024 1000 400 400 128 100 255\n4096 0 0 0 0 0 255",
  );
});

Deno.test("a client that is interrupted while an answer takes long gets EINTR", async () => {
  await using mounted = await mountToys(
    oneMoment({ 2: { names: { file: 3 } }, 3: { content: "still here" } }),
  );
  const { history } = mounted;
  const resolve = history.resolve.bind(history);
  const stuck = Promise.withResolvers<{ seq: number; time: string }>();
  history.resolve = (volume, expression) =>
    expression === "stuck" ? stuck.promise : resolve(volume, expression);
  assert.equal(
    await mounted.sh(`timeout -s KILL 0.2 ls v/at/stuck; cat v/at/now/file`),
    "Killed\nstill here",
  );
  stuck.resolve({ seq: 1, time: TIME });
  assert.equal(await mounted.sh(`ls v/at/stuck`), "file");
});

Deno.test("a moment that was closed meanwhile is opened again for files that are still in use", async () => {
  const disk = wholeDisk({ 2: { names: { file: 3 } }, 3: { patternBytes: 40_000_000 } });
  await using mounted = await mountToys({
    v: { moments: { 1: { time: TIME, disk }, 2: { time: "2026-11-22T10:16:00.000000Z", disk } } },
  }, { openMoments: 1 });
  assert.equal(
    await mounted.sh(`
      exec 3< v/at/seq:1/file
      head -c 1 v/at/seq:2/file | wc -c
      tail -c 39000000 <&3 | wc -c
      cat v/at/seq:2/file | wc -c
    `),
    "1\n39000000\n40000000",
  );
  assert.deepEqual(mounted.history.opened, ["v@1", "v@2", "v@1", "v@2"]);
  assert.equal(mounted.history.openViews, 1);
});

Deno.test("the kernel's memory of nodes is followed down to nothing", async () => {
  const names = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`file-${index}`, index + 3]));
  const files = Object.fromEntries(Object.values(names).map((inode) => [inode, {}]));
  await using mounted = await mountToys(oneMoment({ 2: { names }, ...files }));
  await mounted.sh("ls -lR v/at/now/; ls -l v/points/*/");
  assert.ok(mounted.session.nodeCount > 500);
  // Remounting makes the kernel drop the names it keeps.
  assert.equal(await mounted.sh(`mount -i -o remount,ro '${mounted.path}'`), "");
  await mounted.sh("ls .");
  assert.ok(mounted.session.nodeCount < 10, `${mounted.session.nodeCount} nodes are left`);
});

Deno.test("after a lazy unmount those inside are served until they leave", async () => {
  const volumes = oneMoment({ 2: { names: { file: 3 } }, 3: { patternBytes: 5_000_000 } });
  const mounted = await mountToys(volumes);
  const script = "exec 3< v/at/now/file; umount -l .; ls v/at/now; wc -c <&3";
  assert.equal(await shell(script, mounted.path), "file\n5000000");
  await mounted.ended;
  await mounted[Symbol.asyncDispose]();
  assert.equal(mounted.history.openViews, 0);
});

import assert from "node:assert/strict";
import { MemoryDevice } from "../src/base/memory_device.ts";
import { openGuestDisk } from "../src/guestfs/mod.ts";
import { mountToys, shell } from "./_mounting.ts";

/** `mkfs.ext4 -d` keeps whole seconds, and a folder's size depends on the file system. */
const LOOK = String.raw`find . -mindepth 1 ! -path './lost+found*' \( \
  -type d -printf '%p %m %U:%G %n\n' -o -printf '%p %y %m %U:%G %n %s %T@ %l\n' \) | sed 's/\.[0-9]*0 / /' | sort`;

Deno.test("a mounted ext4 disk looks as the folder that it was made from", async () => {
  const folder = await Deno.makeTempDir({ prefix: "varve-fuse-" });
  try {
    const made = await shell(
      `
      mkdir -p files/deep/er files/empty; cd files
      head -c 3000000 /dev/urandom > deep/random; head -c 70 /dev/urandom > deep/er/small
      truncate -s 20M sparse; printf end | dd of=sparse bs=1 seek=10000000 conv=notrunc status=none
      ln -s ../er deep/er/loop; ln -s "$(printf '%0200d' 7)" long; ln deep/random hard; mkfifo pipe
      chmod 4711 deep/random; chown 12:34 deep/er/small; chmod 700 empty
      for number in $(seq 500); do echo $number > deep/er/$number; done
      setfattr -n user.note -v "kept" deep/er/small
      touch -d '1999-12-31T23:59:59Z' deep/er/small
      cd ..; truncate -s 32M disk.img; mkfs.ext4 -q -I 256 -d files disk.img
      `,
      folder,
    );
    assert.equal(made, "");
    const content = await Deno.readFile(`${folder}/disk.img`);
    const device = new MemoryDevice(content.length, { content, readOnly: true });
    await using mounted = await mountToys({
      v: { moments: { 1: { time: "2026-11-22T10:15:00.000000Z", disk: openGuestDisk(device), device } } },
    });
    assert.equal(await mounted.sh(`cd v/at/now; ${LOOK}`), await shell(LOOK, `${folder}/files`));
    assert.equal(
      await mounted.sh(`
        cd v/at/now
        diff -r --no-dereference -x lost+found -x pipe . ${folder}/files && echo same
        getfattr -n user.note --only-values deep/er/small; echo
        cmp ../../images/mark:none.img ${folder}/disk.img 2>/dev/null; cmp ../../images/seq:1.img ${folder}/disk.img && echo image
        cp --sparse=auto sparse ${folder}/copy && [ $(stat -c %b ${folder}/copy) -lt 100 ] && echo sparse
      `),
      "same\nkept\nimage\nsparse",
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

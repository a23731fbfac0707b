import { deepEqual, equal, ok } from "node:assert/strict";
import { latin1 } from "../_bytes.ts";
import type { GuestFileSystem } from "../guest.ts";
import { openGuestDisk } from "../guest_disk.ts";
import { ImageDevice, TemporaryFolder } from "../_test_support.ts";
import { makeVersion4 } from "./_version4.ts";

/** What {@linkcode makeVersion4} tells, as a reader sees it. */
function found(fileSystem: GuestFileSystem, path: string, inode: number): Uint8Array | string | string[] {
  const { type, sizeBytes } = fileSystem.stat(inode);
  if (type === "symlink") return latin1(fileSystem.readLink(inode));
  if (type === "file") {
    const content = new Uint8Array(sizeBytes);
    equal(fileSystem.read(inode, 0, content), sizeBytes);
    return content;
  }
  equal(type, "directory", path);
  return fileSystem.readDirectory(inode).map(({ name }) => latin1(name)).sort();
}

const CASES: Readonly<Record<string, string[]>> = {
  "defaults": [],
  "blocks of 512 bytes, inodes of 256": ["-b", "size=512", "-i", "size=256"],
  "no types in directories": ["-n", "ftype=0"],
  "blocks of 1 KiB, directory blocks of 8 KiB": ["-b", "size=1024", "-n", "size=8192"],
  "names without case": ["-n", "version=ci"],
};

for (const [name, make] of Object.entries(CASES)) {
  Deno.test(`xfs: version 4: ${name}: shows what mkfs put in`, async () => {
    await using folder = new TemporaryFolder();
    const image = `${folder.path}/image`;
    const tree = await makeVersion4(folder.path, image, make);
    using device = new ImageDevice(image);
    const [partition] = openGuestDisk(device).partitions;
    const fileSystem = partition?.fileSystem;
    if (fileSystem === undefined) throw new Error(`${partition?.reason}`);
    for (const [path, expected] of tree) {
      let inode: number = fileSystem.root;
      for (const part of path.split("/").slice(1)) {
        const next: number | undefined = fileSystem.lookup(inode, new TextEncoder().encode(part));
        if (next === undefined) throw new Error(`${path} was not found`);
        if (make.includes("version=ci")) {
          equal(fileSystem.lookup(inode, new TextEncoder().encode(part.toUpperCase())), next);
        }
        inode = next;
      }
      deepEqual(found(fileSystem, path, inode), expected, path);
    }
    equal(fileSystem.lookup(fileSystem.root, new TextEncoder().encode("absent")), undefined);
    const inode = fileSystem.lookup(fileSystem.root, new TextEncoder().encode("file511"));
    ok(inode !== undefined);
    const { mode, uid, gid, links, bornNs } = fileSystem.stat(inode);
    deepEqual({ mode, uid, gid, links, bornNs }, {
      mode: 0o4640,
      uid: 1000,
      gid: 11,
      links: 1,
      bornNs: undefined,
    });
  });
}

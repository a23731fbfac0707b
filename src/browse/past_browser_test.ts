import assert from "node:assert/strict";
import { openAppliance } from "../appliance.ts";
import type { PastPlace } from "../timeline/past.ts";
import { openGuestDisk } from "../guestfs/mod.ts";
import { ImageDevice, run, TemporaryFolder } from "../guestfs/_test_support.ts";
import { directDisk } from "./direct_disk.ts";
import { type OpenedMoment, PastBrowser } from "./past_browser.ts";
import type { PastDisk, PastFileSystem } from "./past_file_system.ts";

/** A folder with everything whose content lies elsewhere than in plain blocks, and with much of it. */
const FILL = `
  set -e
  mkdir -p many deep/er; for i in $(seq 300); do echo $i > many/$i; done
  head -c 9000000 /dev/urandom > big; head -c 70 /dev/urandom > deep/er/small
  truncate -s 20M sparse; printf end | dd of=sparse bs=1 seek=10000000 conv=notrunc status=none
  for i in $(seq 0 2 400); do printf x | dd of=comb bs=1 seek=$((i * 5000)) conv=notrunc status=none; done
  ln -s ../er deep/er/loop; ln big hard; mkfifo pipe; : > empty
  setfattr -n user.note -v kept deep/er/small
`;

/** The past of volumes adopted from images, each at the moment it was adopted. */
async function pastOf(
  folder: string,
  images: readonly string[],
): Promise<{ place: PastPlace; seq: number }[]> {
  const appliance = await openAppliance({ dataPath: `${folder}/data`, baselineBytesPerSecond: 1e12 });
  try {
    const past = [];
    for (const [index, path] of images.entries()) {
      const name = `v${index}`;
      await appliance.createVolume({ name, primary: { path, adopt: true } }, { name: "test" });
      while (!appliance.getVolume(name).baseline.complete) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const { seq } = await appliance.resolve(name, "now");
      past.push({ place: await appliance.locatePast(name, seq), seq });
    }
    return past;
  } finally {
    await appliance.close();
  }
}

/** Everything that can be seen of a file and what is below it, one line each. */
async function describe(fileSystem: PastFileSystem, inode = fileSystem.root, path = ""): Promise<string[]> {
  const stat = await fileSystem.stat(inode);
  const facts: unknown[] = [path, stat, await fileSystem.xattrs(inode)];
  const lines: string[] = [];
  if (stat.type === "symlink") facts.push(await fileSystem.readLink(inode));
  if (stat.type === "file") {
    for (let at: number | undefined = 0, kind = "hole" as "data" | "hole"; at !== undefined;) {
      kind = kind === "hole" ? "data" : "hole";
      at = await fileSystem.seek(inode, at, kind);
      facts.push(kind, at);
    }
    facts.push(await hashOf(fileSystem, inode));
  }
  if (stat.type === "directory") {
    const listing = await fileSystem.list(inode);
    for (let index = 0; index < listing.length; index++) {
      const { name, inode: child, stat: listed } = listing.at(index);
      assert.deepEqual(await fileSystem.lookup(inode, name), listed);
      lines.push(...await describe(fileSystem, child, `${path}/${new TextDecoder().decode(name)}`));
    }
  }
  const text = JSON.stringify(facts, (_, value) => typeof value === "bigint" ? `${value}` : value);
  return [text, ...lines];
}

async function hashOf(fileSystem: PastFileSystem, inode: number): Promise<string> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  // Odd lengths cross every boundary that there is.
  const buffer = new Uint8Array(99_991);
  for (let at = 0;;) {
    const count = await fileSystem.read(inode, at, buffer);
    parts.push(buffer.slice(0, count));
    at += count;
    if (count < buffer.length) break;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer())).toHex();
}

function onlyFileSystem({ partitions }: PastDisk): PastFileSystem {
  const [partition] = partitions;
  if (partition?.fileSystem === undefined) throw new Error(`no file system: ${partition?.reason}`);
  return partition.fileSystem;
}

Deno.test("what is seen through the sandbox is what the reader sees itself", async () => {
  await using folder = new TemporaryFolder();
  await Deno.mkdir(`${folder.path}/files`);
  await run("sh", "-c", `cd ${folder.path}/files; ${FILL}`);
  const images: string[] = [];
  for (const [index, options] of [[], ["-b", "1024", "-O", "inline_data"], ["-t", "ext2"]].entries()) {
    const image = `${folder.path}/${index}.img`;
    await run("truncate", "-s", "64M", image);
    await run("mkfs.ext4", "-q", "-F", ...options, "-d", `${folder.path}/files`, image);
    images.push(image);
  }
  const past = await pastOf(folder.path, images);
  const browser = new PastBrowser();
  try {
    await Promise.all(past.map(async ({ place, seq }, index) => {
      using image = new ImageDevice(images[index] ?? "");
      const direct = onlyFileSystem(directDisk(openGuestDisk(image)));
      const opened = browser.open(place, seq);
      const sandboxed = onlyFileSystem(await opened.disk());
      assert.equal(sandboxed.kind, direct.kind);
      assert.deepEqual(await sandboxed.space(), await direct.space());
      assert.deepEqual(await describe(sandboxed), await describe(direct));
      opened.close();
    }));
  } finally {
    browser.close();
  }
});

Deno.test("a disk without a file system says why, and a history that is not there is refused", async () => {
  await using folder = new TemporaryFolder();
  const images = [`${folder.path}/noise`, `${folder.path}/damaged`];
  await Deno.writeFile(images[0] ?? "", crypto.getRandomValues(new Uint8Array(65536)).fill(7, 0, 2048));
  await run("truncate", "-s", "16M", images[1] ?? "");
  await run("mkfs.ext4", "-q", "-F", images[1] ?? "");
  {
    using file = await Deno.open(images[1] ?? "", { write: true });
    await file.seek(1024 + 0x28, Deno.SeekMode.Start);
    await file.write(new Uint8Array([255, 255]));
  }
  const past = await pastOf(folder.path, images);
  const browser = new PastBrowser({ sandboxes: 1 });
  try {
    const opened: OpenedMoment[] = past.map(({ place, seq }) => browser.open(place, seq));
    const [noise, damaged] = await Promise.all(opened.map((moment) => moment.disk()));
    assert.match(noise?.partitions[0]?.reason ?? "", /no known file system/);
    assert.match(damaged?.partitions[0]?.reason ?? "", /holds an ext file system, which cannot be opened/);
    opened[0]?.close();
    const nowhere = { directory: `${folder.path}/none`, sizeBytes: 65536 };
    assert.throws(() => browser.open(nowhere, 1), { name: "VarveError" });
  } finally {
    browser.close();
  }
});

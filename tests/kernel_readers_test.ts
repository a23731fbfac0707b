/**
 * `varve serve --kernel-readers`: the host's kernel reads partitions that Varve has no reader for, and only then.
 *
 * @module
 */
import assert from "node:assert/strict";
import { knowsDriver, servedLoops } from "../fuse/kernel_reader/_testing.ts";
import { mountTest } from "../src/guestfs/_kernel_mount.ts";
import { type TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB } from "./support/bytes.ts";
import { sparseFile } from "./support/devices.ts";
import { run } from "./support/run.ts";

const DISK_BYTES = 48 * MIB;
const PARTITION_MIB = 1;

/** Writes a table of the old kind; its tools would wait until all disks of the machine are written. */
async function writeTable(image: string): Promise<void> {
  const sector = new Uint8Array(512);
  const view = new DataView(sector.buffer);
  for (const [index, [startMib, sizeMib]] of [[PARTITION_MIB, 32], [PARTITION_MIB + 32, 8]].entries()) {
    const entry = 446 + index * 16;
    view.setUint8(entry + 4, 0x83);
    view.setUint32(entry + 8, (startMib ?? 0) * 2048, true);
    view.setUint32(entry + 12, (sizeMib ?? 0) * 2048, true);
  }
  view.setUint16(510, 0xaa55, true);
  using file = await Deno.open(image, { write: true });
  await file.write(sector);
}

/** A disk with a partition of EROFS, which Varve does not read, and one of noise. */
async function makeDisk(folder: string, texts: Record<string, string>): Promise<string> {
  const image = `${folder}/disk.img`;
  const content = `${folder}/content`;
  await Deno.mkdir(`${content}/folder`, { recursive: true });
  for (const [name, text] of Object.entries(texts)) {
    await Deno.writeTextFile(`${content}/folder/${name}`, text);
  }
  await Deno.symlink("folder/hello", `${content}/link`);
  await Deno.remove(image).catch(() => {});
  await sparseFile(image, DISK_BYTES);
  await writeTable(image);
  await run("mkfs.erofs", `${folder}/erofs.img`, content);
  await run("dd", `if=${folder}/erofs.img`, `of=${image}`, "bs=1M", `seek=${PARTITION_MIB}`, "conv=notrunc");
  await Deno.remove(content, { recursive: true });
  return image;
}

async function fill(appliance: TestAppliance, mark: string, texts: Record<string, string>): Promise<void> {
  const image = await makeDisk(appliance.folder, texts);
  await run("nbdcopy", "--flush", image, appliance.uri("disk"));
  await appliance.mark("disk", mark);
}

/** A test of the kernel's driver for EROFS; where there is none it is skipped, and its name says why. */
function erofsTest(name: string, fn: () => Promise<void>): void {
  if (knowsDriver("erofs")) mountTest(name, fn);
  else Deno.test({ name: `${name} (skipped: this kernel has no erofs)`, ignore: true, fn });
}

erofsTest(
  "kernel readers: a partition that Varve does not read is read by the kernel, in the tree and by the API",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", DISK_BYTES);
    await fill(appliance, "one", { hello: "first\n", gone: "x" });
    await fill(appliance, "two", { hello: "second\n" });
    for (const [mark, text, names] of [["one", "first\n", 2], ["two", "second\n", 1]] as const) {
      const root = `${appliance.mountPath}/disk/points/${await appliance.timeOfMark("disk", mark)}`;
      assert.equal(await Deno.readTextFile(`${root}/p1/folder/hello`), text);
      assert.equal(await Deno.readTextFile(`${root}/p1/link`), text);
      assert.equal((await Array.fromAsync(Deno.readDir(`${root}/p1/folder`))).length, names);
      assert.match(await Deno.readTextFile(`${root}/p2/README`), /no file system that Varve reads/);
      assert.equal(await appliance.varveOk("cat", "disk", "/p1/folder/hello", "--at", `mark:${mark}`), text);
    }
    assert.ok((await servedLoops()).length >= 2, "both moments are mounted, in the kernel");
    assert.doesNotMatch(await Deno.readTextFile("/proc/self/mounts"), /erofs/, "and nobody else sees it");
    await appliance.kill();
    await run("umount", "--lazy", appliance.mountPath);
    assert.deepEqual(await servedLoops(), [], "nothing is left of it");
    await appliance.launch();
    const root = `${appliance.mountPath}/disk/at/mark:two`;
    assert.equal(await Deno.readTextFile(`${root}/p1/folder/hello`), "second\n");
    await appliance.stop();
    assert.deepEqual(await servedLoops(), [], "nothing is left of it");
    await appliance.launch();
  }, { flags: ["--kernel-readers"] }),
);

erofsTest(
  "kernel readers: without being asked for, a text says that there is that way",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", DISK_BYTES);
    await fill(appliance, "one", { hello: "first\n" });
    const folder = `${appliance.mountPath}/disk/at/mark:one/p1`;
    assert.deepEqual((await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name), ["README"]);
    const readme = await Deno.readTextFile(`${folder}/README`);
    assert.match(readme, /EROFS/);
    assert.match(readme, /driver erofs: start the appliance with --kernel-readers/);
    assert.match(readme, /off unless it is asked for/);
    assert.doesNotMatch(
      await Deno.readTextFile(`${appliance.mountPath}/disk/at/mark:one/p2/README`),
      /--kernel-readers/,
    );
    assert.deepEqual(await servedLoops(), []);
  }),
);

/**
 * Partitioned disks show one folder per partition; a moment without files says why and still has its image.
 *
 * @module
 */
import assert from "node:assert/strict";
import { withAppliance } from "./support/appliance.ts";
import { assertFile, MIB, Random } from "./support/bytes.ts";
import { sparseFile } from "./support/devices.ts";
import { run } from "./support/run.ts";

const DISK_BYTES = 96 * MIB;

/** Partitions in the order of the table; `p3` has no file system. */
const PARTITIONS = [
  { name: "p1", type: "ext2", startMib: 1, sizeMib: 24, file: "boot/kernel.txt", text: "kernel of p1\n" },
  { name: "p2", type: "ext4", startMib: 25, sizeMib: 48, file: "etc/host/name.txt", text: "files of p2\n" },
  { name: "p3", startMib: 73, sizeMib: 8 },
] as const;

/** The partitioners sync every disk of the machine, which nobody here waits for: hence `eatmydata`. */
const TABLES = {
  async gpt(image: string) {
    const options = PARTITIONS.flatMap(({ startMib, sizeMib }, index) => [
      `--new=${index + 1}:${startMib * 2048}:+${sizeMib}M`,
    ]);
    await run("eatmydata", "sgdisk", ...options, image);
  },
  async mbr(image: string) {
    const lines = PARTITIONS.map(({ startMib, sizeMib }) =>
      `start=${startMib}MiB, size=${sizeMib}MiB, type=83`
    );
    await run(
      "bash",
      "-c",
      `printf '%s\\n' "label: dos" "$@" | eatmydata sfdisk --quiet "$0"`,
      image,
      ...lines,
    );
  },
};

/** Makes a partitioned image whose file systems hold one file each. */
async function makeDisk(folder: string, table: keyof typeof TABLES): Promise<string> {
  const image = `${folder}/${table}.img`;
  await sparseFile(image, DISK_BYTES);
  await TABLES[table](image);
  for (const partition of PARTITIONS) {
    if (!("type" in partition)) continue;
    const content = `${folder}/${table}-${partition.name}`;
    const file = `${content}/${partition.file}`;
    await Deno.mkdir(file.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(file, partition.text);
    const options = ["-q", "-F", "-t", partition.type, "-d", content];
    await run(
      "mke2fs",
      ...options,
      "-E",
      `offset=${partition.startMib * MIB}`,
      image,
      `${partition.sizeMib}M`,
    );
  }
  return image;
}

async function names(path: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(path), (entry) => entry.name)).sort();
}

for (const table of ["gpt", "mbr"] as const) {
  Deno.test(
    `partitions: a disk with ${table.toUpperCase()} shows p1, p2 and p3`,
    withAppliance(async (appliance) => {
      await appliance.createVolume("disk", DISK_BYTES);
      const image = await makeDisk(appliance.folder, table);
      await run("nbdcopy", "--flush", image, appliance.uri("disk"));
      await appliance.mark("disk", "full");
      const time = await appliance.timeOfMark("disk", "full");

      const root = `${appliance.mountPath}/disk/points/${time}`;
      assert.deepEqual(await names(root), ["p1", "p2", "p3"]);
      const listing = await appliance.varveOk("ls", "disk", "/", "--at", "mark:full", "--json");
      assert.deepEqual(JSON.parse(listing).entries.map(({ path }: { path: string }) => path), [
        "/p1",
        "/p2",
        "/p3",
      ]);

      for (const partition of PARTITIONS) {
        if (!("type" in partition)) continue;
        const { name, file, text } = partition;
        const [first = "", ...rest] = file.split("/");
        assert.deepEqual(await names(`${root}/${name}`), [first, "lost+found"].sort());
        assert.equal(await Deno.readTextFile(`${root}/${name}/${file}`), text);
        const parent = `/${name}/${[first, ...rest.slice(0, -1)].join("/")}`;
        const listed = JSON.parse(
          await appliance.varveOk("ls", "disk", parent, "--at", "mark:full", "--json"),
        );
        assert.deepEqual(listed.entries.map((entry: { path: string }) => entry.path), [`/${name}/${file}`]);
        assert.equal(await appliance.varveOk("cat", "disk", `/${name}/${file}`, "--at", "mark:full"), text);
        assert.equal(
          await Deno.readTextFile(`${appliance.mountPath}/disk/at/mark:full/${name}/${file}`),
          text,
        );
      }

      assert.deepEqual(await names(`${root}/p3`), ["README"]);
      assert.match(await Deno.readTextFile(`${root}/p3/README`), /no .*file system|file system/i);
      await assertFile(`${appliance.mountPath}/disk/images/${time}.img`, await Deno.readFile(image));
    }),
  );
}

Deno.test(
  "partitions: a disk without a file system has a README that says why, and its image",
  withAppliance(async (appliance) => {
    await appliance.createVolume("raw", 8 * MIB);
    const content = new Random(7).bytes(8 * MIB);
    {
      await using disk = await appliance.disk("raw");
      await disk.write(0, content);
    }
    await appliance.mark("raw", "noise");
    const time = await appliance.timeOfMark("raw", "noise");
    const folder = `${appliance.mountPath}/raw/points/${time}`;
    assert.deepEqual(await names(folder), ["README"]);
    const readme = await Deno.readTextFile(`${folder}/README`);
    assert.match(readme, /file system/);
    assert.match(readme, /\.img/, "it leads to the image");
    await assertFile(`${appliance.mountPath}/raw/images/${time}.img`, content);

    const refused = await appliance.varve("ls", "raw", "--at", "mark:noise");
    assert.equal(refused.code, 1, refused.stdout);
    assert.match(refused.stderr, /file system/);
  }),
);

/**
 * The life of the mounted tree: busy when it goes, dead when its server is killed, taken away by others, in the way of
 * another appliance. Whatever becomes of it, capture goes on.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type StartOptions, TestAppliance, withAppliance } from "./support/appliance.ts";
import { MIB, Random } from "./support/bytes.ts";
import { attempt, ENVIRONMENT, exists, run, until } from "./support/run.ts";

const SIZE_BYTES = 16 * MIB;
const BIG_BYTES = 4 * MIB;

/** Makes a volume with a few files of all kinds on ext4, marked `full`. */
async function makeVolume(appliance: TestAppliance, name = "disk"): Promise<void> {
  const { folder } = appliance;
  const content = `${folder}/content`;
  await Deno.mkdir(`${content}/deep/er`, { recursive: true });
  await Deno.writeFile(`${content}/big`, new Random(5).bytes(BIG_BYTES));
  await Deno.writeTextFile(`${content}/deep/er/text`, `files of ${name}\n`);
  await Deno.link(`${content}/deep/er/text`, `${content}/linked`);
  await Deno.symlink("deep/er/text", `${content}/link`);
  const image = `${folder}/${name}.ext4`;
  await run("mke2fs", "-q", "-F", "-t", "ext4", "-d", content, image, `${SIZE_BYTES / 1024}k`);
  await appliance.createVolume(name, SIZE_BYTES);
  await run("nbdcopy", "--flush", image, appliance.uri(name));
  await appliance.mark(name, "full");
  await Deno.remove(content, { recursive: true });
}

/** Shows that commands are captured: writes, marks, and reads it back from the past. */
async function assertCaptures(appliance: TestAppliance, volume: string): Promise<void> {
  const bytes = new Random(9).bytes(4096);
  {
    await using disk = await appliance.disk(volume);
    await disk.write(MIB, bytes, { fua: true });
  }
  await appliance.mark(volume, "captured");
  await using past = await appliance.disk(`${volume}@mark:captured`);
  assert.deepEqual(await past.read(MIB, bytes.length), bytes);
}

/** Types of what is mounted at a path, the one that shows last. */
async function mountsAt(path: string): Promise<string[]> {
  const table = await Deno.readTextFile("/proc/self/mounts");
  return table.split("\n").map((line) => line.split(" ")).filter(([, at]) => at === path).map(([, , type]) =>
    `${type}`
  );
}

interface Inside extends AsyncDisposable {
  /** Resolves with all that it printed when it has ended. */
  readonly output: Promise<string>;
}

/** A process with its cwd and an open file in the past of `disk`, which reads until it can't. */
async function stayInside(appliance: TestAppliance): Promise<Inside> {
  const started = `${appliance.folder}/started`;
  const script = `cd "$0/disk/at/mark:full" && exec 3< big || exit 1
    : > "$2"
    gone=no
    while head -c 65536 deep/../big > /dev/null && head -c 4096 <&3 > /dev/null; do
      [ $gone = no ] && ! grep -q " $0 " /proc/self/mounts && gone=yes && echo "read after the unmount"
      sleep 0.02
    done
    ls "$1/" . || true`;
  const process = new Deno.Command("sh", {
    args: ["-c", `exec 2>&1; ${script}`, appliance.mountPath, "/nowhere", started],
    env: ENVIRONMENT,
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const output = new Response(process.stdout).text();
  const status = process.status;
  let ended = false;
  status.then(() => ended = true);
  await until("the process is inside", async () => ended || await exists(started));
  return {
    output,
    async [Symbol.asyncDispose]() {
      if (!ended) process.kill("SIGKILL");
      await status;
      await output;
    },
  };
}

/** Inode, type, mode, owners, links, size and time of each path, and the content of each file. */
function describe(path: string): Promise<string> {
  return run(
    "sh",
    "-c",
    `cd "$0" && find . -printf '%i %y %m %U:%G %n %s %T@ %p %l\\n' | sort && find . -type f -exec sha256sum {} + | sort`,
    path,
  );
}

Deno.test(
  "mount: an appliance that stops serves those inside for a while, then they get ENOTCONN and it ends",
  withAppliance(async (appliance) => {
    await makeVolume(appliance);
    await using inside = await stayInside(appliance);
    await appliance.stop();
    const output = await inside.output;
    assert.match(output, /^read after the unmount$/m);
    assert.match(output, /Transport endpoint is not connected/);
    assert.deepEqual(await mountsAt(appliance.mountPath), []);
    assert.ok(!await exists(appliance.mountPath), "the mount point that it made is gone");
  }),
);

Deno.test(
  "mount: after kill -9 with somebody inside the next start mounts again, with the same inodes and content",
  withAppliance(async (appliance) => {
    await makeVolume(appliance);
    const time = await appliance.timeOfMark("disk", "full");
    const volumePath = `${appliance.mountPath}/disk`;
    const places = [`points/${time}`, "at/mark:full", `at/${time}`];
    const look = async () => {
      const looks = [];
      for (const place of places) looks.push(await describe(`${volumePath}/${place}`));
      looks.push(
        await run("sh", "-c", `cd "$0" && stat -c '%i %n' . points marks images README`, volumePath),
      );
      looks.push(await run("stat", "-c", "%i %s %Y", `${volumePath}/images/${time}.img`));
      return looks;
    };
    const before = await look();
    assert.match(before[0] ?? "", /deep\/er\/text/);
    {
      await using inside = await stayInside(appliance);
      await appliance.kill();
      assert.match(await inside.output, /Transport endpoint is not connected|connection abort/);
      const { code, stderr } = await attempt("ls", appliance.mountPath);
      assert.notEqual(code, 0);
      assert.match(stderr, /Transport endpoint is not connected/);
      await appliance.launch();
    }
    assert.deepEqual(await mountsAt(appliance.mountPath), ["fuse.varve"]);
    assert.deepEqual(await look(), before);
    await assertCaptures(appliance, "disk");
    await appliance.stop();
    await appliance.launch();
    assert.deepEqual(await look(), before);
  }),
);

Deno.test(
  "mount: somebody unmounts the tree, and the appliance goes on and says so",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    await run("umount", appliance.mountPath);
    const status = () => appliance.apiOk<{ mountPath?: string; mountError?: string }>("GET", "/v1/status");
    await until("the appliance has noticed", async () => (await status()).mountError !== undefined);
    const { mountPath, mountError } = await status();
    assert.deepEqual([mountPath, mountError], [undefined, "Serving the mounted tree: somebody unmounted it"]);
    assert.match(
      await appliance.varveOk("status"),
      /not mounted +Serving the mounted tree: somebody unmounted it/,
    );
    await assertCaptures(appliance, "disk");
    assert.match(
      await appliance.stop(),
      /The past is not mounted at .*: somebody unmounted it|somebody unmounted it/,
    );
    await appliance.launch();
    assert.deepEqual(await mountsAt(appliance.mountPath), ["fuse.varve"]);
  }),
);

async function withTwo(
  first: TestAppliance,
  options: StartOptions,
  test: (second: TestAppliance) => Promise<void>,
): Promise<void> {
  await using second = await TestAppliance.start({ mayLackMount: true, ...options });
  assert.ok(first.pid !== second.pid);
  await test(second);
}

Deno.test(
  "mount: of two appliances on one mount point the second is refused, and captures all the same",
  withAppliance(async (first) => {
    await first.createVolume("first", SIZE_BYTES);
    await withTwo(first, { flags: ["--mount", first.mountPath] }, async (second) => {
      assert.equal(second.place.mountPath, undefined);
      assert.match(
        second.place.mountError ?? "",
        /^Mount the tree on .*: a tree is served there already \(Stop the other .*--mount\.\)$/,
      );
      await second.createVolume("second", SIZE_BYTES);
      await assertCaptures(second, "second");
      assert.equal(await run("ls", first.mountPath), "first\n");
    });
    assert.equal(await run("ls", first.mountPath), "first\n");
    assert.deepEqual(await mountsAt(first.mountPath), ["fuse.varve"]);
  }),
);

Deno.test(
  "mount: two appliances serve side by side, and neither takes away what the other has mounted later",
  withAppliance(async (first) => {
    await makeVolume(first);
    await withTwo(first, {}, async (second) => {
      await second.createVolume("second", SIZE_BYTES);
      assert.equal(await run("ls", first.mountPath), "disk\n");
      assert.equal(await run("ls", second.mountPath), "second\n");
    });
    // With somebody inside, the first still serves what was unmounted lazily.
    await using inside = await stayInside(first);
    await run("umount", "--lazy", first.mountPath);
    await withTwo(first, { flags: ["--mount", first.mountPath] }, async (second) => {
      assert.equal(second.place.mountPath, first.mountPath);
      await second.createVolume("second", SIZE_BYTES);
      await first.stop();
      assert.match(await inside.output, /Transport endpoint is not connected/);
      assert.equal(await run("ls", first.mountPath), "second\n");
    });
    assert.deepEqual(await mountsAt(first.mountPath), []);
    await first.launch();
  }),
);

Deno.test("mount: what others have left on the mount point is not touched", async () => {
  const folder = await Deno.realPath(await Deno.makeTempDir({ prefix: "varve-test-" }));
  const mount = `${folder}/mnt`;
  await Deno.mkdir(mount);
  // A dead FUSE mount of another type: the server is a shell that is gone.
  const script =
    `exec 3<>/dev/fuse; mount -i -t fuse.other -o fd=3,rootmode=40000,user_id=0,group_id=0 other "$0"`;
  await run("bash", "-c", script, mount);
  try {
    assert.match((await attempt("ls", mount)).stderr, /Transport endpoint is not connected/);
    await using appliance = await TestAppliance.start({ flags: ["--mount", mount], mayLackMount: true });
    assert.match(appliance.place.mountError ?? "", /^Mount the tree on .*\/mnt: .*(ENOTCONN|not connected)/);
    assert.deepEqual(await mountsAt(mount), ["fuse.other"]);
    await appliance.createVolume("disk", SIZE_BYTES);
    await assertCaptures(appliance, "disk");
    await appliance.stop();
    assert.deepEqual(await mountsAt(mount), ["fuse.other"]);
    await run("umount", mount);
    // An empty file system of another kind is as good a place as a folder.
    await run("mount", "-t", "tmpfs", "tmpfs", mount);
    await appliance.launch();
    assert.equal(appliance.place.mountPath, mount);
    await appliance.stop();
    assert.deepEqual(await mountsAt(mount), ["tmpfs"]);
    await appliance.launch();
  } finally {
    while ((await mountsAt(mount)).length > 0) await run("umount", "--lazy", mount);
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("mount: a mount point that can't be is told, and one with odd names and no parents serves", async () => {
  const folder = await Deno.realPath(await Deno.makeTempDir({ prefix: "varve-test-" }));
  try {
    await Deno.writeTextFile(`${folder}/file`, "kept");
    const options = { flags: ["--mount", `${folder}/file`], mayLackMount: true };
    await using appliance = await TestAppliance.start(options);
    assert.match(appliance.place.mountError ?? "", /file: it is not a folder$/);
    await appliance.stop();

    options.flags[1] = folder;
    await appliance.launch();
    assert.match(
      appliance.place.mountError ?? "",
      /: the folder is not empty \(Choose an empty or new folder/,
    );
    await appliance.stop();
    assert.equal(await Deno.readTextFile(`${folder}/file`), "kept");

    const odd = `${folder}/not there/two\nlines/tab\there`;
    options.flags[1] = odd;
    await appliance.launch();
    assert.deepEqual([appliance.place.mountPath, appliance.place.mountError], [odd, undefined]);
    await appliance.createVolume("disk", SIZE_BYTES);
    assert.deepEqual([...Deno.readDirSync(odd)].map(({ name }) => name), ["disk"]);
    await appliance.kill();
    await appliance.launch();
    assert.deepEqual([...Deno.readDirSync(odd)].map(({ name }) => name), ["disk"]);
    await appliance.stop();
    assert.deepEqual([...Deno.readDirSync(odd)], [], "it was there when the last one started");

    // A relative path is one of the folder where the command is given.
    options.flags[1] = "varve-relative-mount-test";
    await appliance.launch();
    assert.equal(appliance.place.mountPath, `${Deno.realPathSync(".")}/varve-relative-mount-test`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

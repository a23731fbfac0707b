import assert from "node:assert/strict";
import { withMountFolder } from "./_mount_folder.ts";
import { shell } from "./_mounting.ts";
import { closeDevice, openDevice } from "./device.ts";
import { cString, libc } from "./libc.ts";
import { attach, type Attached, detach, mount, prepareMountPoint, removeMountPoint } from "./mount.ts";
import { mountsAt } from "./mount_table.ts";

/** A mount whose server is gone. */
function leaveDeadMount(path: string): void {
  const handles = openDevice();
  mount(handles.device, { path, made: false });
  closeDevice(handles);
}

Deno.test("prepareMountPoint detaches dead mounts, however many are stacked", () =>
  withMountFolder(async (folder) => {
    for (let count = 0; count < 3; count++) leaveDeadMount(folder);
    assert.match(await shell(`ls ${folder}`, "/"), /Transport endpoint is not connected/);
    assert.deepEqual(await prepareMountPoint(folder), { path: folder, made: false });
    assert.deepEqual(await mountsAt(folder), []);
  }));

Deno.test("prepareMountPoint refuses a folder that is not empty, also below a dead mount", () =>
  withMountFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/below`, "kept");
    leaveDeadMount(folder);
    for (let round = 0; round < 2; round++) {
      await assert.rejects(prepareMountPoint(folder), {
        code: "conflict",
        message: /the folder is not empty$/,
      });
      assert.equal(await shell(`cat ${folder}/below`, "/"), "kept");
    }
  }));

Deno.test("prepareMountPoint leaves a tree alone whose server does not answer", () =>
  withMountFolder(async (folder) => {
    const { handles } = await attach({ path: folder, made: false });
    await assert.rejects(prepareMountPoint(folder), { code: "conflict", message: /served there already/ });
    await detach(folder);
    // Ends the question that is still waiting for an answer.
    closeDevice(handles);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }));

Deno.test("prepareMountPoint follows symbolic links to a dead mount", () =>
  withMountFolder(async (folder) => {
    await Deno.mkdir(`${folder}/real`);
    await Deno.symlink(folder, `${folder}/link`);
    await Deno.symlink("link/real", `${folder}/last`);
    for (const name of ["link/real", "last"]) {
      leaveDeadMount(`${folder}/real`);
      assert.deepEqual(await prepareMountPoint(`${folder}/${name}`), { path: `${folder}/real`, made: false });
      assert.deepEqual(await mountsAt(`${folder}/real`), []);
    }
    await Deno.symlink("loop", `${folder}/loop`);
    await assert.rejects(prepareMountPoint(`${folder}/loop`), {
      code: "invalid",
      message: /too many symbolic/,
    });
  }));

Deno.test("what a killed appliance left is detached, and a living one's tree is refused", () =>
  withMountFolder(async (folder) => {
    const path = `${folder}/mnt`;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-lock", new URL("./_toy_child.ts", import.meta.url).pathname, path],
      stdout: "piped",
    }).spawn();
    const output = child.stdout.getReader();
    assert.equal(new TextDecoder().decode((await output.read()).value), "ready\n");
    assert.equal(await shell("cat v/at/now/file", path), "sequence 5");
    await assert.rejects(prepareMountPoint(path), { name: "VarveError", code: "conflict" });

    child.kill("SIGKILL");
    await child.status;
    await output.cancel();
    assert.match(await shell(`ls ${path}`, "/"), /Transport endpoint is not connected/);
    // Attributes of its root are still cached, which must not make it look alive.
    assert.deepEqual(await prepareMountPoint(path), { path, made: false });
    assert.equal(await shell(`ls ${path}`, "/"), "");
  }));

Deno.test("detach and prepareMountPoint leave other mounts alone", () =>
  withMountFolder(async (folder) => {
    await shell(`mount -t tmpfs tmpfs ${folder}`, "/");
    try {
      await detach(folder);
      assert.deepEqual(await prepareMountPoint(folder), { path: folder, made: false });
      assert.deepEqual((await mountsAt(folder)).map(({ type }) => type), ["tmpfs"]);
      // The same on top of a dead tree: it is not ours to take away what lies over it.
      await shell(`umount ${folder}`, "/");
      leaveDeadMount(folder);
      await shell(`mount -t tmpfs tmpfs ${folder}`, "/");
      await detach(folder);
      assert.deepEqual((await mountsAt(folder)).map(({ type }) => type), ["fuse.varve", "tmpfs"]);
    } finally {
      await shell(`umount ${folder}; umount -l ${folder}`, "/");
    }
  }));

Deno.test("prepareMountPoint makes a missing folder, and removeMountPoint only what it made", () =>
  withMountFolder(async (folder) => {
    const made = await prepareMountPoint(`${folder}/a/b`);
    assert.deepEqual(made, { path: `${folder}/a/b`, made: true });
    await removeMountPoint(made);
    await removeMountPoint({ path: `${folder}/a`, made: false });
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name), ["a"]);
    assert.deepEqual([...Deno.readDirSync(`${folder}/a`)], []);
  }));

Deno.test("prepareMountPoint refuses what is not a folder", () =>
  withMountFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "");
    await assert.rejects(prepareMountPoint(`${folder}/file`), { name: "VarveError", code: "invalid" });
    await assert.rejects(prepareMountPoint(`${folder}/file/below`), { name: "VarveError" });
  }));

Deno.test("mount says why it failed", () =>
  withMountFolder((folder) => {
    assert.throws(() => mount(-1, { path: folder, made: false }), { name: "VarveError", message: /EINVAL/ });
    assert.throws(() => mount(-1, { path: `${folder}/gone`, made: false }), { message: /ENOENT/ });
    return Promise.resolve();
  }));

async function withAttached(
  path: string,
  use: (attached: Attached) => Promise<void>,
  access?: { allowOther?: boolean },
): Promise<void> {
  const attached = await attach({ path, made: false }, access);
  try {
    await use(attached);
  } finally {
    await detach(path, attached.device);
    closeDevice(attached.handles);
  }
}

/** Options of the mount that shows at a path. */
async function optionsOf(path: string): Promise<string[]> {
  const [, , type, options] = (await shell(`grep ' ${path} ' /proc/self/mounts`, "/")).split(" ");
  return [`${type}`, ...`${options}`.split(",")];
}

Deno.test("attach lets other users in only when told so, and always enforces modes", () =>
  withMountFolder(async (folder) => {
    for (const allowOther of [undefined, false, true]) {
      await withAttached(folder, async ({ device }) => {
        const options = await optionsOf(folder);
        for (const always of ["fuse.varve", "ro", "nosuid", "nodev", "noexec", "default_permissions"]) {
          assert.ok(options.includes(always), `${always} in ${options}`);
        }
        assert.equal(options.includes("allow_other"), allowOther === true);
        assert.deepEqual(await mountsAt(folder), [{ device, path: folder, type: "fuse.varve", owner: 0 }]);
      }, allowOther === undefined ? {} : { allowOther });
    }
  }));

Deno.test("attach mounts on paths that the mount table has to escape", () =>
  withMountFolder(async (folder) => {
    for (
      const name of [" a b ", "tab\there", "two\nlines", "back\\040slash", "#1", "a,b=c", "-o", "\u{1f5c4}"]
    ) {
      const path = `${folder}/${name}`;
      const point = await prepareMountPoint(path);
      assert.deepEqual(point, { path, made: true });
      await withAttached(path, () => Promise.resolve());
      assert.deepEqual(await mountsAt(path), [], JSON.stringify(name));
      leaveDeadMount(path);
      assert.deepEqual(await prepareMountPoint(path), { path, made: false });
      assert.deepEqual(await mountsAt(path), [], JSON.stringify(name));
    }
  }));

Deno.test("of two that want one folder at the same time, the second is refused", () =>
  withMountFolder(async (folder) => {
    const conflict = { name: "VarveError", code: "conflict" };
    const other = libc.open(cString(folder), 0o2000000);
    try {
      assert.equal(libc.flock(other, 2), 0);
      await assert.rejects(attach({ path: folder, made: false }), conflict);
      assert.equal(libc.flock(other, 8), 0);
      await withAttached(folder, async () => {
        assert.equal(libc.flock(other, 2 | 4), 0, "a mount that stands needs no lock");
        libc.flock(other, 8);
        await assert.rejects(attach({ path: folder, made: false }), conflict);
        assert.equal((await mountsAt(folder)).length, 1);
      });
    } finally {
      libc.close(other);
    }
  }));

Deno.test("detach takes away only the tree of that device number", () =>
  withMountFolder(async (folder) => {
    await withAttached(folder, async ({ device }) => {
      await detach(folder, "0:0");
      assert.equal((await mountsAt(folder)).length, 1);
      await detach(folder, device);
      assert.deepEqual(await mountsAt(folder), []);
      await detach(folder, device);
    });
  }));

Deno.test("attach says what is missing", () =>
  withMountFolder(async (folder) => {
    await assert.rejects(attach({ path: `${folder}/gone`, made: false }), { message: /gone: ENOENT$/ });
    await Deno.writeTextFile(`${folder}/file`, "");
    await assert.rejects(attach({ path: `${folder}/file`, made: false }), { message: /file: ENOTDIR$/ });
  }));

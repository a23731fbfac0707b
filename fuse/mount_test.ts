import assert from "node:assert/strict";
import { shell } from "./_mounting.ts";
import { closeDevice, openDevice } from "./device.ts";
import { detach, mount, parseMountInfo, prepareMountPoint, removeMountPoint } from "./mount.ts";

Deno.test("parseMountInfo reads paths with spaces and optional fields", () => {
  const text = [
    "22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw",
    "99 22 0:41 / /mnt/my\\040disk ro,nosuid - fuse.varve varve ro,user_id=0",
    "",
  ].join("\n");
  assert.deepEqual(parseMountInfo(text), [
    { device: "254:0", path: "/", type: "ext4" },
    { device: "0:41", path: "/mnt/my disk", type: "fuse.varve" },
  ]);
});

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.realPath(await Deno.makeTempDir({ prefix: "varve-fuse-" }));
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A mount whose server is gone. */
function leaveDeadMount(path: string): void {
  const handles = openDevice();
  mount(handles.device, { path, made: false });
  closeDevice(handles);
}

Deno.test("prepareMountPoint detaches dead mounts, however many are stacked", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/below`, "");
    for (let count = 0; count < 3; count++) leaveDeadMount(folder);
    assert.match(await shell(`ls ${folder}`, "/"), /Transport endpoint is not connected/);
    assert.deepEqual(await prepareMountPoint(folder), { path: folder, made: false });
    assert.equal(await shell(`ls ${folder}`, "/"), "below");
  }));

Deno.test("prepareMountPoint follows symbolic links to a dead mount", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/real`);
    await Deno.symlink(folder, `${folder}/link`);
    leaveDeadMount(`${folder}/real`);
    assert.deepEqual(await prepareMountPoint(`${folder}/link/real`), { path: `${folder}/real`, made: false });
    assert.equal(await shell(`ls ${folder}/real`, "/"), "");
  }));

Deno.test("what a killed appliance left is detached, and a living one's tree is refused", () =>
  withFolder(async (folder) => {
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
  withFolder(async (folder) => {
    await shell(`mount -t tmpfs tmpfs ${folder}`, "/");
    try {
      await Deno.writeTextFile(`${folder}/kept`, "");
      await detach(folder);
      assert.deepEqual(await prepareMountPoint(folder), { path: folder, made: false });
      assert.equal(await shell(`ls ${folder}`, "/"), "kept");
    } finally {
      await shell(`umount ${folder}`, "/");
    }
  }));

Deno.test("prepareMountPoint makes a missing folder, and removeMountPoint only what it made", () =>
  withFolder(async (folder) => {
    const made = await prepareMountPoint(`${folder}/a/b`);
    assert.deepEqual(made, { path: `${folder}/a/b`, made: true });
    await removeMountPoint(made);
    await removeMountPoint({ path: `${folder}/a`, made: false });
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name), ["a"]);
    assert.deepEqual([...Deno.readDirSync(`${folder}/a`)], []);
  }));

Deno.test("prepareMountPoint refuses what is not a folder", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "");
    await assert.rejects(prepareMountPoint(`${folder}/file`), { name: "VarveError", code: "invalid" });
    await assert.rejects(prepareMountPoint(`${folder}/file/below`), { name: "VarveError" });
  }));

Deno.test("mount says why it failed", () =>
  withFolder((folder) => {
    assert.throws(() => mount(-1, { path: folder, made: false }), { name: "VarveError", message: /EINVAL/ });
    assert.throws(() => mount(-1, { path: `${folder}/gone`, made: false }), { message: /ENOENT/ });
    return Promise.resolve();
  }));

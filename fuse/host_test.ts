import assert from "node:assert/strict";
import { VarveError } from "../src/base/errors.ts";
import { shell } from "./_mounting.ts";
import { ToyHistory, wholeDisk } from "./_testing.ts";
import { type MountedTree, mountTree, type MountTreeOptions } from "./host.ts";

const history = new ToyHistory({
  v: {
    moments: {
      5: { time: "2026-11-22T10:15:00.000001Z", mark: "start", disk: wholeDisk({}) },
      9: { time: "2026-11-22T10:16:00.500000Z", disk: wholeDisk({}) },
    },
  },
});

async function mountOn(path: string, more: Partial<MountTreeOptions> = {}): Promise<MountedTree> {
  const [info] = await history.listVolumes();
  assert.ok(info);
  const described = await history.describe("v");
  return await mountTree({
    path,
    workerUrl: new URL("./_toy_worker.ts", import.meta.url),
    engine: {
      listVolumes: () => [{ ...described, ...info }],
      getVolume: () => described,
      listFileVersions: (volume, path) => history.versions(volume, path),
      listDeletedFiles: (volume, at, path) => history.deleted(volume, Number(at.slice(4)), path),
      listPoints: async (volume, { kinds, limit }) => {
        assert.deepEqual([kinds, limit], [["created", "mark", "tier"], 10_000]);
        return { points: await history.listPoints(volume) };
      },
      resolve: (volume, expression) => history.resolve(volume, expression),
    },
    locate: () => Promise.resolve({ directory: "toy", sizeBytes: 1024 ** 2 }),
    ...more,
  });
}

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.realPath(await Deno.makeTempDir({ prefix: "varve-fuse-" }));
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

Deno.test("mountTree serves the engine's history from a Worker until unmount", () =>
  withFolder(async (folder) => {
    const tree = await mountOn(`${folder}/made/here`);
    assert.equal(tree.path, `${folder}/made/here`);
    assert.equal(
      await shell(
        "cat v/points/*/file v/marks/start/file v/at/now/file; ls v v/images; cat v/at/whatever",
        tree.path,
      ),
      [
        "sequence 5\nsequence 9\nsequence 5\nsequence 9",
        "v:\nREADME\nat\nimages\nmarks\npoints",
        "",
        "v/images:\n2026-11-22T10:15:00.000Z.img\n2026-11-22T10:16:00.500Z.img",
        "cat: v/at/whatever: No such file or directory",
      ].join("\n"),
    );
    assert.match(
      await shell(`grep ' ${tree.path} ' /proc/mounts`, "/"),
      /^varve \S+ fuse\.varve ro,nosuid,nodev,noexec,\S*default_permissions 0 0$/,
    );
    await Promise.all([tree.unmount(), tree.unmount()]);
    assert.equal(await exists(tree.path), false);
    assert.equal(await exists(`${folder}/made`), true);
  }));

Deno.test("unmount leaves a folder that was there before", () =>
  withFolder(async (folder) => {
    const tree = await mountOn(folder);
    await tree.unmount();
    assert.deepEqual([...Deno.readDirSync(folder)], []);
  }));

Deno.test("the real serving thread starts, and what the engine throws reaches clients as an errno", () =>
  withFolder(async (folder) => {
    const tree = await mountOn(`${folder}/mnt`, {
      workerUrl: new URL("./worker.ts", import.meta.url),
      locate: () => Promise.reject(new VarveError("not-retained", "Locate: thinned away")),
    });
    try {
      assert.equal(
        await shell("ls v/at/seq:5; ls v/at/io", tree.path),
        "ls: cannot access 'v/at/seq:5': No such file or directory\nls: cannot access 'v/at/io': Input/output error",
      );
    } finally {
      await tree.unmount();
    }
  }));

Deno.test("unmount serves those inside for the grace time and no longer", () =>
  withFolder(async (folder) => {
    const tree = await mountOn(`${folder}/mnt`, { graceMs: 300 });
    const script =
      `exec 3< v/at/now/big; echo opened > ${folder}/opened; while head -c 4096 <&3 >/dev/null; do :; done`;
    const inside = shell(script, tree.path);
    while (!await exists(`${folder}/opened`)) await new Promise((resolve) => setTimeout(resolve, 10));
    await tree.unmount();
    assert.match(await inside, /Transport endpoint is not connected|Software caused connection abort/);
    assert.equal(await exists(`${folder}/mnt`), false);
  }));

Deno.test("unmount ends a serving thread that is stuck", () =>
  withFolder(async (folder) => {
    const located = Promise.withResolvers<void>();
    const tree = await mountOn(`${folder}/mnt`, {
      graceMs: 100,
      locate: () => {
        located.resolve();
        return Promise.resolve({ directory: "endless", sizeBytes: 1024 ** 2 });
      },
    });
    const stuck = shell("cat v/at/now/file", tree.path);
    await located.promise;
    await tree.unmount();
    assert.match(await stuck, /Software caused connection abort|Transport endpoint is not connected/);
    assert.equal(await exists(`${folder}/mnt`), false);
  }));

Deno.test("a tree that somebody else unmounts is reported and cleaned up", () =>
  withFolder(async (folder) => {
    const ended = Promise.withResolvers<VarveError | undefined>();
    const tree = await mountOn(`${folder}/mnt`, { onEnded: ended.resolve });
    await shell(`umount ${tree.path}`, "/");
    assert.equal(await ended.promise, undefined);
    await tree.unmount();
    assert.equal(await exists(`${folder}/mnt`), false);
  }));

Deno.test("a serving thread that dies is reported, and its mount is gone", () =>
  withFolder(async (folder) => {
    const ended = Promise.withResolvers<VarveError | undefined>();
    const tree = await mountOn(`${folder}/mnt`, {
      onEnded: ended.resolve,
      locate: () => Promise.resolve({ directory: "poison", sizeBytes: 1024 ** 2 }),
    });
    await shell("while cat v/at/now/file; do :; done", tree.path);
    assert.match((await ended.promise)?.message ?? "", /the poison worked/);
    assert.equal(await exists(`${folder}/mnt`), false);
    await tree.unmount();
  }));

Deno.test("a serving thread that can't start fails the mount", () =>
  withFolder(async (folder) => {
    let reported = false;
    await assert.rejects(
      mountOn(`${folder}/mnt`, {
        workerUrl: new URL("./no_such_worker.ts", import.meta.url),
        onEnded: () => reported = true,
      }),
      { name: "VarveError", code: "io" },
    );
    assert.equal(await exists(`${folder}/mnt`), false);
    assert.equal(reported, false);
  }));

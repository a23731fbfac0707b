import assert from "node:assert/strict";
import { withMountFolder } from "./_mount_folder.ts";
import { shell } from "./_mounting.ts";
import { mountByHelper } from "./fusermount.ts";
import { prepareMountPoint } from "./mount.ts";
import { mountsAt } from "./mount_table.ts";

/** Longer than any end takes, in milliseconds. */
const STOP_LIMIT_MS = 10_000;

/** Anybody but root, without a group, who may read all files, so that the sources can lie anywhere. */
const NOBODY = 65534;
const AS_NOBODY = [
  ...[`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"],
  ...["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"],
];

/** A folder that belongs to nobody. */
async function ownFolder(path: string): Promise<string> {
  await Deno.mkdir(path);
  await Deno.chown(path, NOBODY, NOBODY);
  return path;
}

/** Runs a script of the shell as nobody, with no more rights than a user has. */
function asNobody(script: string): Promise<string> {
  return shell(
    `setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups sh -c '${script}'`,
    "/",
  );
}

/** A process of nobody that serves toys. */
class ToyChild implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;

  constructor(path: string, flags: string[] = [], searched = Deno.env.get("PATH") ?? "") {
    const toys = new URL("./_toy_child.ts", import.meta.url).pathname;
    const program = [
      "env",
      `PATH=${searched}`,
      Deno.execPath(),
      "run",
      "-A",
      "--no-lock",
      "--no-check",
      toys,
      path,
      ...flags,
    ];
    this.#child = new Deno.Command("setpriv", {
      args: [...AS_NOBODY, ...program],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** What it says next. */
  async says(): Promise<string> {
    return (await this.#lines.read()).value?.trim() ?? "nothing";
  }

  /** Lets it unmount and answers whether it could; one that does not come to its end is killed, and that fails the test. */
  async stop(): Promise<boolean> {
    const killer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_LIMIT_MS);
    this.#child.kill("SIGTERM");
    const { success, signal } = await this.#child.status;
    clearTimeout(killer);
    assert.equal(signal, null, "it stops by itself");
    return success;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (thrown) {
      if (!(thrown instanceof TypeError)) throw thrown; // What Deno throws when it has ended already.
    }
    await this.#child.status;
    await this.#lines.cancel();
  }
}

Deno.test("a user other than root mounts, looks and unmounts, and nobody else gets in", () =>
  withMountFolder(async (folder) => {
    // What fusermount3 and the mount table both have to escape.
    const path = `${await ownFolder(`${folder}/own`)}/two words\n#1`;
    await using child = new ToyChild(path);
    assert.equal(await child.says(), "ready");
    const [mounted] = await mountsAt(path);
    assert.deepEqual([mounted?.type, mounted?.owner], ["fuse.varve", NOBODY]);
    const table = await shell(`grep 'own/two' /proc/self/mounts`, "/");
    assert.match(table, /^varve \S+ fuse\.varve ro,nosuid,nodev,noexec,\S*default_permissions 0 0$/);
    assert.equal(await asNobody(`cat "${path}/v/at/now/file"`), "sequence 5");
    assert.match(await shell(`cat '${path}/v/at/now/file'`, "/"), /Permission denied$/, "not even root");

    assert.ok(await child.stop());
    assert.deepEqual(await mountsAt(path), []);
    assert.deepEqual([...Deno.readDirSync(`${folder}/own`)], [], "the folder it made is gone");
  }));

Deno.test("a user other than root detaches what was left when the server was killed", () =>
  withMountFolder(async (folder) => {
    const path = await ownFolder(`${folder}/mnt`);
    {
      await using child = new ToyChild(path);
      assert.equal(await child.says(), "ready");
      await using other = new ToyChild(path);
      assert.match(await other.says(), /^conflict: .*a tree is served there already/);
      assert.equal(await asNobody(`cat ${path}/v/at/now/file`), "sequence 5");
    }
    assert.match(await asNobody(`ls ${path}`), /Transport endpoint is not connected/);
    await using child = new ToyChild(path);
    assert.equal(await child.says(), "ready");
    assert.equal((await mountsAt(path)).length, 1);
    assert.equal(await asNobody(`cat ${path}/v/at/now/file`), "sequence 5");

    await asNobody(`fusermount3 -u ${path}`);
    assert.equal(await child.says(), "ended: unmounted");
  }));

Deno.test("a user other than root is told whose tree it is that is in the way", () =>
  withMountFolder(async (folder) => {
    const path = await ownFolder(`${folder}/mnt`);
    await using child = new ToyChild(path);
    assert.equal(await child.says(), "ready");
    await assert.rejects(prepareMountPoint(path), {
      code: "conflict",
      message: /user 65534 has mounted a tree there$/,
    });
    assert.ok(await child.stop());
  }));

Deno.test("a user other than root lets others in only as /etc/fuse.conf allows", () =>
  withMountFolder(async (folder) => {
    const path = await ownFolder(`${folder}/mnt`);
    const allowed = /^\s*user_allow_other\s*$/m.test(
      await Deno.readTextFile("/etc/fuse.conf").catch(() => ""),
    );
    await using child = new ToyChild(path, ["--allow-other"]);
    const said = await child.says();
    if (allowed) {
      assert.equal(said, "ready");
      assert.equal(await shell(`cat ${path}/v/at/now/file`, "/"), "sequence 5");
      assert.ok(await child.stop());
    } else {
      assert.match(
        said,
        /^forbidden: .*option allow_other only allowed if.*user_allow_other in \/etc\/fuse.conf/,
      );
      assert.deepEqual(await mountsAt(path), []);
    }
  }));

Deno.test("a user other than root can't mount on somebody else's folder", () =>
  withMountFolder(async (folder) => {
    await Deno.mkdir(`${folder}/mnt`);
    await using child = new ToyChild(`${folder}/mnt`);
    assert.match(await child.says(), /^forbidden: .*no write access to mountpoint.*belongs to this user/);
    assert.deepEqual(await mountsAt(`${folder}/mnt`), []);
  }));

Deno.test("a tree that can't be unmounted is dead when the appliance ends, and nobody waits for it", () =>
  withMountFolder(async (folder) => {
    const path = await ownFolder(`${folder}/mnt`);
    await Deno.mkdir(`${folder}/bin`);
    const helper = (await shell("command -v fusermount3", "/")).trim();
    await Deno.symlink(helper, `${folder}/bin/fusermount3`);
    await using child = new ToyChild(path, [], `${folder}/bin`);
    assert.equal(await child.says(), "ready");
    await Deno.remove(`${folder}/bin/fusermount3`);
    assert.equal(await child.stop(), false);
    assert.match(await child.says(), /not installed/);
    assert.match(await asNobody(`ls ${path}`), /Transport endpoint is not connected/);
  }));

/** A helper that does as the script says. */
async function fakeHelper(folder: string, script: string): Promise<string> {
  const path = `${folder}/helper`;
  await Deno.writeTextFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

const REFUSALS: Record<string, { said: string; code: string; hint: RegExp }> = {
  "a closed /dev/fuse": {
    said: "failed to open /dev/fuse: Permission denied",
    code: "forbidden",
    hint: /Let this user open \/dev\/fuse/,
  },
  "a kernel without FUSE": {
    said: "fuse device not found, try 'modprobe fuse' first",
    code: "unsupported",
    hint: /modprobe fuse/,
  },
  "a helper that is not setuid": {
    said: "mount failed: Operation not permitted",
    code: "forbidden",
    hint: /setuid root/,
  },
  "too many mounts": {
    said: "too many FUSE filesystems mounted; mount_max=N can be set in /etc/fuse.conf",
    code: "conflict",
    hint: /mount_max/,
  },
  "something new": { said: "the moon is full", code: "io", hint: /^undefined$/ },
};

for (const [name, { said, code, hint }] of Object.entries(REFUSALS)) {
  Deno.test(`mountByHelper says what to do about ${name}`, () =>
    withMountFolder(async (folder) => {
      const helper = await fakeHelper(
        folder,
        `echo "helper: a warning" >&2; echo "fusermount3: ${said}" >&2; exit 1`,
      );
      await assert.rejects(
        mountByHelper("/mnt", ["ro"], helper),
        (error: Error & { code?: string; hint?: string }) => {
          assert.equal(error.name, "VarveError");
          assert.equal(error.code, code);
          assert.equal(error.message, `Mount the tree on /mnt by fusermount3: ${said}`);
          assert.match(`${error.hint}`, hint);
          return true;
        },
      );
    }));
}

Deno.test("mountByHelper says which package to install", () =>
  assert.rejects(mountByHelper("/mnt", ["ro"], "/nowhere/fusermount3"), {
    code: "unsupported",
    message: /not installed/,
    hint: /fuse3/,
  }));

Deno.test("mountByHelper gives the helper its options, its path and the socket, and unmounts when no descriptor comes", () =>
  withMountFolder(async (folder) => {
    const helper = await fakeHelper(
      folder,
      `echo "$@" >> ${folder}/log; test -z "$_FUSE_COMMFD" || printf x >&"$_FUSE_COMMFD"`,
    );
    await assert.rejects(mountByHelper("/a b", ["ro", "subtype=varve"], helper), {
      code: "io",
      message: /sent no descriptor$/,
    });
    assert.equal(
      await Deno.readTextFile(`${folder}/log`),
      "-o ro,subtype=varve -- /a b\n-u -q -z -- /a b\n",
    );
  }));

import assert from "node:assert/strict";

const { test } = Deno;

const MAIN = new URL("main.ts", import.meta.url).pathname;

function varve(...args: string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", MAIN, ...args],
    stdout: "piped",
    stderr: "piped",
  });
}

/** Starts an appliance without a mount; resolves with what it printed when it is ready. */
async function start(...args: string[]): Promise<{ process: Deno.ChildProcess; printed: string }> {
  const process = varve("serve", ...args).spawn();
  let printed = "";
  for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
    printed += text;
    if (printed.includes("varve: ready\n")) return { process, printed };
  }
  throw new assert.AssertionError({
    message: new TextDecoder().decode(await new Response(process.stderr).bytes()),
  });
}

test("varve serve starts, answers, refuses a second on its data, and stops on SIGTERM with its sockets gone", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const config = `${folder}/config.json`;
    const [nbd, api] = [`unix:${folder}/nbd.sock`, `unix:${folder}/run/api.sock`];
    await Deno.writeTextFile(config, JSON.stringify({ data: `${folder}/data`, mount: false, nbd: [nbd] }));
    const { process, printed } = await start("--config", config, "--api", api, "--api", "127.0.0.1:0");
    assert.match(printed, new RegExp(`^varve: NBD on ${nbd}$`, "m"));
    assert.match(printed, new RegExp(`^varve: API on ${api}, 127\\.0\\.0\\.1:[1-9]\\d*$`, "m"));

    const shown = await varve("status", "--api", api, "--json").output();
    const status = JSON.parse(new TextDecoder().decode(shown.stdout));
    assert.equal(status.dataPath, `${folder}/data`);
    assert.deepEqual([status.nbd, status.api.length, "mountPath" in status], [[nbd], 2, false]);

    const second = await varve("serve", "--config", config, "--api", `unix:${folder}/other.sock`).output();
    assert.equal(second.code, 1);
    assert.match(new TextDecoder().decode(second.stderr), /^varve: .*another Varve is using it/);

    process.kill("SIGTERM");
    const [{ code }, log] = await Promise.all([process.status, new Response(process.stderr).text()]);
    assert.equal(code, 0, log);
    for (const socket of ["nbd.sock", "run/api.sock"]) {
      assert.throws(() => Deno.lstatSync(`${folder}/${socket}`), Deno.errors.NotFound);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

test("varve serve tells every fault of its configuration and exits 1", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/c.json`, JSON.stringify({ data: 1, api: ["x"] }));
    const { code, stderr } = await varve("serve", "--config", `${folder}/c.json`).output();
    assert.equal(code, 1);
    assert.match(
      new TextDecoder().decode(stderr),
      /data must be an absolute path; api\.0 must be unix:\/path or HOST:PORT/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

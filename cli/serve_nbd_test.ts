import assert from "node:assert/strict";
import { makeCertificates } from "../src/nbd/_tls_testing.ts";

const { test } = Deno;

const MAIN = new URL("main.ts", import.meta.url).pathname;
const SERVE = ["run", "-A", "--no-check", MAIN, "serve", "--no-mount"];

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function serveArgs(folder: string, ...args: string[]): string[] {
  return [Deno.execPath(), ...SERVE, "--data", `${folder}/data`, "--api", `unix:${folder}/api.sock`, ...args];
}

async function run(command: string, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const output = await new Deno.Command(command, { args, stdin: "null" }).output();
  const [out = "", err = ""] = [output.stdout, output.stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code: output.code, out, err };
}

/** Makes a volume `disk` in the data folder, by an appliance that is gone when this returns. */
async function makeVolume(folder: string): Promise<void> {
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      ...SERVE,
      "--data",
      `${folder}/data`,
      "--api",
      `unix:${folder}/api.sock`,
      "--nbd",
      `unix:${folder}/n`,
    ],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
    if (text.includes("varve: ready\n")) break;
  }
  const made = await run(
    Deno.execPath(),
    ...["run", "-A", "--no-check", MAIN, "volume", "create", "disk", "--size", "4M"],
    ...["--api", `unix:${folder}/api.sock`],
  );
  assert.equal(made.code, 0, made.err);
  process.kill("SIGTERM");
  await process.status;
}

/** libnbd's client, which starts the appliance itself in the way that `connect` names. */
const LIBNBD = `
import nbd, sys
h = nbd.NBD()
h.set_export_name("disk")
getattr(h, sys.argv[1])(sys.argv[2:])
assert h.get_size() == 4 << 20, h.get_size()
h.pwrite(b"varve" * 1000, 4096)
h.flush()
assert h.pread(5000, 4096) == b"varve" * 1000
h.shutdown()
print("done")
`;

/** Waits until the appliance has let its data folder go, then reads what a client wrote. */
async function assertWritten(folder: string): Promise<void> {
  const read = `${
    LIBNBD.split("h.pwrite")[0]
  }assert h.pread(5, 4096) == b"varve"\nh.shutdown()\nprint("read")\n`;
  for (let attempt = 0;; attempt++) {
    const { out, err } = await run(
      "/usr/bin/python3",
      ...["-c", read, "connect_command", ...serveArgs(folder, "--nbd", "stdio")],
    );
    if (out === "read\n") return;
    if (attempt === 20) assert.fail(err);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

test("varve serve --nbd stdio serves one client and stops in order when it leaves", async () => {
  await inFolder(async (folder) => {
    await makeVolume(folder);
    const command = serveArgs(folder, "--nbd", "stdio");
    const { out, err } = await run("/usr/bin/python3", "-c", LIBNBD, "connect_command", ...command);
    assert.equal(out, "done\n", err);
    assert.match(err, /varve: NBD on stdio\n/);
    assert.match(err, /varve: ready\n/);
    await assertWritten(folder);
    const info = await run("nbdinfo", "--size", "--", "[", ...serveArgs(folder, "--nbd", "stdio"), "]");
    // The default export is asked for, which does not exist: what matters is that the two have talked.
    assert.match(info.err, /export|No such file/i);
  });
});

test("varve serve --nbd stdio works over pipes as well, and says nothing but NBD on standard output", async () => {
  await inFolder(async (folder) => {
    await makeVolume(folder);
    const [command = "", ...args] = serveArgs(folder, "--nbd", "stdio", "--json");
    const process = new Deno.Command(command, { args, stdin: "piped", stdout: "piped", stderr: "piped" })
      .spawn();
    const log = new Response(process.stderr).text();
    const writer = process.stdin.getWriter();
    const flags = Uint8Array.of(0, 0, 0, 3);
    const abort = new Uint8Array([...new TextEncoder().encode("IHAVEOPT"), 0, 0, 0, 2, 0, 0, 0, 0]);
    await writer.write(Uint8Array.of(...flags, ...abort));
    const said = await new Response(process.stdout).bytes();
    assert.equal(new TextDecoder().decode(said.subarray(0, 16)), "NBDMAGICIHAVEOPT");
    assert.equal(said.length, 18 + 20, "a greeting and the answer to ABORT");
    const { code } = await process.status;
    assert.equal(code, 0, await log);
    assert.match(await log, /"nbd":\["stdio"\].*\n[^]*Stopping on "?the end of the client/);
    await writer.close().catch(() => {});
  });
});

test("varve serve on sockets that were passed to it: libnbd's socket activation", async () => {
  await inFolder(async (folder) => {
    await makeVolume(folder);
    const connect = "connect_systemd_socket_activation";
    const { out, err } = await run("/usr/bin/python3", "-c", LIBNBD, connect, ...serveArgs(folder));
    // It listens at libnbd's own socket and at no other; libnbd ends it by SIGTERM.
    assert.match(out, /^varve: NBD on unix:\/tmp\/libnbd[^,]*$[^]*^done$/m, err);
    await assertWritten(folder);
  });
});

test("varve serve on sockets that were passed to it: systemd-socket-activate, by name and by address", async () => {
  await inFolder(async (folder) => {
    const activate = (address: string, name: string, ...more: string[]) =>
      new Deno.Command("systemd-socket-activate", {
        args: [`--listen=${address}`, `--fdname=${name}`, ...serveArgs(folder, ...more)],
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
    /** It starts the appliance when somebody connects. */
    const connect = async (address: string) => {
      for (let attempt = 0;; attempt++) {
        try {
          return address.startsWith("/")
            ? await Deno.connect({ transport: "unix", path: address })
            : await Deno.connect({ port: Number(address) });
        } catch (thrown) {
          if (attempt === 200) throw thrown;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
    };
    const port = (() => {
      using listener = Deno.listen({ port: 0 });
      return String(listener.addr.port);
    })();

    const good = activate(`${folder}/nbd.sock`, "nbd");
    using conn = await connect(`${folder}/nbd.sock`);
    const greeting = new Uint8Array(18);
    assert.equal(await conn.read(greeting), 18);
    good.kill("SIGTERM");
    const { stdout, stderr, code } = await good.output();
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    assert.match(new TextDecoder().decode(stdout), new RegExp(`varve: NBD on unix:${folder}/nbd.sock\\n`));

    for (
      const [address, name, told] of [
        [`${folder}/api-passed.sock`, "api", /the API can't be served on a passed socket/],
        [`0.0.0.0:${port}`, "nbd", /whoever reaches it could read and write every volume/],
      ] as const
    ) {
      const refused = activate(address, name);
      using conn = await connect(name === "api" ? address : port);
      const { code, stderr } = await refused.output();
      assert.equal(code, 1);
      assert.match(new TextDecoder().decode(stderr), told);
      assert.ok(conn);
    }
  });
});

test("varve serve --nbd-tls require serves beyond this machine, to clients that encrypt", async () => {
  await inFolder(async (folder) => {
    await makeCertificates(`${folder}/pki`);
    const [command = "", ...args] = serveArgs(
      folder,
      ...["--nbd", "0.0.0.0:0", "--nbd-tls", "require", "--nbd-tls-cert", `${folder}/pki/server-cert.pem`],
      ...[
        "--nbd-tls-key",
        `${folder}/pki/server-key.pem`,
        "--nbd-tls-ca",
        `${folder}/pki/ca-cert.pem`,
        "--json",
      ],
    );
    const process = new Deno.Command(command, { args, stdout: "piped", stderr: "piped" }).spawn();
    const log = new Response(process.stderr).text();
    const told = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const place = JSON.parse((await told.read()).value ?? await log);
    const port = place.nbd[0].split(":").at(-1);
    const encrypted = `nbds://localhost:${port}?tls-certificates=${folder}/pki`;
    const list = await run("nbdinfo", "--list", "--json", encrypted);
    assert.equal(JSON.parse(list.out).TLS, true, list.err);
    assert.notEqual((await run("nbdinfo", "--list", `nbd://localhost:${port}`)).code, 0);
    process.kill("SIGTERM");
    await told.cancel();
    assert.equal((await process.status).code, 0, await log);
  });
});

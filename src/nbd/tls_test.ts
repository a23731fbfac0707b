import assert from "node:assert/strict";
import { makeFolder, noise, utf8 } from "./_testing.ts";
import { makeAuthority, makeCertificate, makeCertificates } from "./_tls_testing.ts";
import { connPeer, testTransport } from "./_transport_conformance.ts";
import { openListener } from "./listener.ts";
import { makeTls, type TlsConnection, type TlsOptions } from "./tls.ts";

const folder = await Deno.makeTempDir({ prefix: "varve-tls-" });
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
await makeCertificates(folder);
await makeAuthority(`${folder}/other`, "Another CA");
await makeCertificate(`${folder}/other`, "client", "/CN=stranger");

const OPTIONS: TlsOptions = {
  certificatePath: `${folder}/server-cert.pem`,
  keyPath: `${folder}/server-key.pem`,
  required: true,
};
const WITH_CA: TlsOptions = { ...OPTIONS, clientCaPath: `${folder}/ca-cert.pem` };

// OpenSSL stays loaded, which is no test's leak.
makeTls(OPTIONS);

/** A client of the runtime's own. */
async function connectTls(address: string, client?: string): Promise<Deno.TlsConn> {
  const caCerts = [Deno.readTextFileSync(`${folder}/ca-cert.pem`)];
  const port = Number(address.split(":").at(-1));
  return await Deno.connectTls({
    hostname: "localhost",
    port,
    caCerts,
    ...(client === undefined ? {} : {
      cert: Deno.readTextFileSync(`${client}-cert.pem`),
      key: Deno.readTextFileSync(`${client}-key.pem`),
    }),
  });
}

testTransport("TLS", async () => {
  const listener = await openListener("127.0.0.1:0");
  const [conn, { transport }] = await Promise.all([
    connectTls(listener.address),
    listener.accept().then((plain) => makeTls(OPTIONS).upgrade(plain)),
  ]);
  listener.close();
  const peer = connPeer(conn);
  return {
    transport,
    peer,
    [Symbol.asyncDispose]() {
      transport.close();
      peer.close();
      return Promise.resolve();
    },
  };
});

/** What a server makes of a client: `openssl s_client` with these arguments, which hears and says a line. */
async function meet(
  options: TlsOptions,
  ...args: string[]
): Promise<{ outcome: TlsConnection | Error; heard: string; said: string; log: string }> {
  const listener = await openListener("127.0.0.1:0");
  const child = new Deno.Command("openssl", {
    args: ["s_client", "-quiet", "-CAfile", `${folder}/ca-cert.pem`, "-connect", listener.address, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const plain = await listener.accept();
  listener.close();
  const outcome = await makeTls(options).upgrade(plain).catch((error: Error) => error);
  let heard = "";
  const writer = child.stdin.getWriter();
  if (!(outcome instanceof Error)) {
    await writer.write(utf8("from the client\n"));
    const target = new Uint8Array(100);
    const length = await outcome.transport.read(target);
    heard = new TextDecoder().decode(target.subarray(0, length ?? 0));
    await outcome.transport.write([utf8("from the "), utf8("server\n")]);
    outcome.transport.close();
  }
  await writer.close().catch(() => {});
  const { stdout, stderr } = await child.output();
  const [said = "", log = ""] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { outcome, heard, said, log };
}

Deno.test("tls: openssl's client is heard and answered, in TLS 1.2 and 1.3", async () => {
  for (const version of ["-tls1_2", "-tls1_3"]) {
    const { outcome, heard, said } = await meet(OPTIONS, version, "-verify_return_error");
    assert.ok(!(outcome instanceof Error), String(outcome));
    assert.deepEqual([heard, said, outcome.certificate], [
      "from the client\n",
      "from the server\n",
      undefined,
    ]);
  }
});

Deno.test("tls: older versions are refused", async () => {
  const { outcome, said } = await meet(OPTIONS, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0");
  assert.ok(outcome instanceof Error);
  assert.match(outcome.message, /^encrypt a connection of 127\.0\.0\.1:\d+: /);
  assert.equal(said, "");
});

Deno.test("tls: a client's certificate is verified when shown, and its subject is told", async () => {
  const own = ["-cert", `${folder}/client-cert.pem`, "-key", `${folder}/client-key.pem`];
  const other = ["-cert", `${folder}/other/client-cert.pem`, "-key", `${folder}/other/client-key.pem`];
  for (const version of ["-tls1_2", "-tls1_3"]) {
    const known = await meet(WITH_CA, version, ...own);
    assert.ok(!(known.outcome instanceof Error), String(known.outcome));
    assert.equal(known.outcome.certificate, "CN=db1,O=Hosts\\, and more");
    assert.equal(known.heard, "from the client\n");

    const silent = await meet(WITH_CA, version);
    assert.ok(!(silent.outcome instanceof Error), String(silent.outcome));
    assert.equal(silent.outcome.certificate, undefined);

    const stranger = await meet(WITH_CA, version, ...other);
    assert.ok(stranger.outcome instanceof Error);
    assert.equal(stranger.said, "");

    const unasked = await meet(OPTIONS, version, ...other);
    assert.ok(!(unasked.outcome instanceof Error));
    assert.equal(unasked.outcome.certificate, undefined);
  }
});

Deno.test("tls: a certificate can be demanded", async () => {
  const demanding = { ...WITH_CA, clientCertificateRequired: true };
  const own = ["-cert", `${folder}/client-cert.pem`, "-key", `${folder}/client-key.pem`];
  for (const version of ["-tls1_2", "-tls1_3"]) {
    const known = await meet(demanding, version, ...own);
    assert.ok(!(known.outcome instanceof Error), String(known.outcome));
    assert.equal(known.outcome.certificate, "CN=db1,O=Hosts\\, and more");
    const silent = await meet(demanding, version);
    assert.ok(silent.outcome instanceof Error);
    assert.equal(silent.said, "");
  }
});

Deno.test("tls: what is no handshake, or none at all, is an error, and nothing is said in plain text", async () => {
  const tls = makeTls(OPTIONS);
  const listener = await openListener("127.0.0.1:0");
  for (const bytes of [noise(2000), utf8("IHAVEOPT"), new Uint8Array()]) {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: Number(listener.address.split(":")[1]) });
    const failed = assert.rejects(tls.upgrade(await listener.accept()), { code: "forbidden" });
    await conn.write(bytes);
    if (bytes.length < 10) await conn.closeWrite();
    await failed;
    const reply = await new Response(conn.readable).bytes().catch(() => new Uint8Array());
    // An alert, if anything: type 21.
    assert.ok(reply.length === 0 || reply[0] === 21, String(reply));
  }
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: Number(listener.address.split(":")[1]) });
  const plain = await listener.accept();
  const failed = assert.rejects(tls.upgrade(plain), { code: "forbidden" });
  plain.close();
  await failed;
  conn.close();
  listener.close();
});

Deno.test("tls: the end is said in the encrypted stream, so that nobody can cut it short unseen", async () => {
  const listener = await openListener("127.0.0.1:0");
  const upgraded = listener.accept().then((plain) => makeTls(OPTIONS).upgrade(plain));
  const conn = await connectTls(listener.address);
  const { transport } = await upgraded;
  await transport.write([noise(100)]);
  transport.close();
  const target = new Uint8Array(200);
  assert.equal(await conn.read(target), 100);
  // Without the alert, this is an unexpected end: a failure.
  assert.equal(await conn.read(target), null);
  conn.close();
  listener.close();
});

Deno.test("tls: files that can't be used are told at once, by name", async () => {
  await using other = await makeFolder();
  await Deno.writeTextFile(`${other.path}/garbage.pem`, "no certificate");
  const wrong: [Partial<TlsOptions>, code: string, message: RegExp][] = [
    [{ certificatePath: `${other.path}/none.pem` }, "not-found", /none\.pem/],
    [{ certificatePath: `${other.path}/garbage.pem` }, "invalid", /garbage\.pem/],
    [{ keyPath: `${other.path}/garbage.pem` }, "invalid", /garbage\.pem/],
    [{ keyPath: `${folder}/client-key.pem` }, "invalid", /client-key\.pem.*key values mismatch/],
    [{ clientCaPath: `${other.path}/garbage.pem` }, "invalid", /garbage\.pem/],
  ];
  for (const [part, code, message] of wrong) {
    assert.throws(() => makeTls({ ...OPTIONS, ...part }), { name: "VarveError", code, message });
  }
});

Deno.test("tls: renewed files serve the next client; a half-made renewal is told and does no harm", async () => {
  await using other = await makeFolder();
  const at = other.path;
  await makeCertificates(at);
  const problems: string[] = [];
  const tls = makeTls({
    certificatePath: `${at}/server-cert.pem`,
    keyPath: `${at}/server-key.pem`,
    required: true,
    onProblem: (error) => problems.push(error.message),
  });
  const listener = await openListener("127.0.0.1:0");
  const works = async (): Promise<boolean> => {
    const upgraded = listener.accept().then((plain) => tls.upgrade(plain));
    const conn = await Deno.connectTls({
      hostname: "localhost",
      port: Number(listener.address.split(":")[1]),
      caCerts: [Deno.readTextFileSync(`${folder}/ca-cert.pem`)],
    });
    const shaken = await conn.handshake().then(() => true, () => false);
    await upgraded.then(({ transport }) => transport.close(), () => {});
    conn.close();
    return shaken;
  };
  assert.equal(await works(), false, "its authority is another one");
  await Deno.copyFile(`${folder}/server-cert.pem`, `${at}/server-cert.pem`);
  assert.equal(await works(), false, "the new certificate has no key yet");
  assert.equal(problems.length, 1);
  await Deno.copyFile(`${folder}/server-key.pem`, `${at}/server-key.pem`);
  assert.equal(await works(), true);
  assert.equal(problems.length, 1);
  listener.close();
});

import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import { makeFolder, noise, run, startServer } from "./_testing.ts";
import { makeAuthority, makeCertificate, makeCertificates } from "./_tls_testing.ts";
import { makeTls, type TlsUpgrade } from "./tls.ts";

const MIB = 1024 * 1024;

const folder = await Deno.makeTempDir({ prefix: "varve-tls-" });
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
await makeCertificates(folder);
await makeAuthority(`${folder}/other`, "Another CA");
await makeCertificate(`${folder}/other`, "client", "/CN=stranger");
await Deno.copyFile(`${folder}/ca-cert.pem`, `${folder}/other/ca-cert.pem`);

/** Made before the tests: OpenSSL stays loaded, which is no test's leak. */
const [ALLOWED, REQUIRED, DEMANDING] = [
  { required: false },
  { required: true },
  { required: true, clientCaPath: `${folder}/ca-cert.pem`, clientCertificateRequired: true },
].map((rules) =>
  makeTls({ ...rules, certificatePath: `${folder}/server-cert.pem`, keyPath: `${folder}/server-key.pem` })
);

async function startTlsServer(tls: TlsUpgrade | undefined, device = new MemoryDevice(8 * MIB)) {
  const started = await startServer({ disk: device }, tls === undefined ? {} : { tls });
  const tcp = await started.server.listen("127.0.0.1:0");
  const port = tcp.split(":").at(-1) ?? "";
  const uri = (certificates = folder) => `nbds://localhost:${port}/disk?tls-certificates=${certificates}`;
  return Object.assign(started, { port, uri });
}

Deno.test("tls interop: nbdinfo and nbdcopy encrypt over TCP and Unix sockets", async () => {
  const device = new MemoryDevice(8 * MIB);
  await using started = await startTlsServer(REQUIRED, device);
  const unix = `nbds+unix:///disk?socket=${started.path}&tls-certificates=${folder}`;
  for (const uri of [started.uri(), unix]) {
    const info = JSON.parse(await run("nbdinfo", "--json", uri));
    assert.equal(info.TLS, true);
    assert.equal(info.exports[0]["export-size"], 8 * MIB);
  }
  await Deno.writeFile(`${started.folder}/source`, noise(8 * MIB));
  await run("nbdcopy", "--connections=4", "--flush", `${started.folder}/source`, started.uri());
  const content = new Uint8Array(8 * MIB);
  device.read(0, content);
  assert.deepEqual(content, noise(8 * MIB));
  await run("nbdcopy", "--connections=4", unix, `${started.folder}/target`);
  assert.deepEqual(await Deno.readFile(`${started.folder}/target`), content);
  assert.ok(
    started.exports.clients.every(({ tls, certificate }) => tls === true && certificate === undefined),
  );
});

Deno.test("tls interop: qemu-img and qemu-io encrypt with tls-creds-x509", async () => {
  await using started = await startTlsServer(DEMANDING);
  const credentials = ["--object", `tls-creds-x509,id=t,endpoint=client,dir=${folder}`];
  const image =
    `driver=raw,file.driver=nbd,file.host=localhost,file.port=${started.port},file.export=disk,file.tls-creds=t`;
  const commands = [
    "write -P 0x11 0 3M",
    "write -f -P 0x22 1234567 8901",
    "flush",
    "read -P 0x22 1234567 8901",
  ];
  const output = await run(
    "qemu-io",
    ...[...credentials, "--image-opts", image, ...commands.flatMap((command) => ["-c", command])],
  );
  assert.doesNotMatch(output, /fail|error/i);
  assert.match(await run("qemu-img", "info", ...credentials, "--image-opts", image), /virtual size: 8 MiB/);
  assert.ok(started.exports.clients.length > 0);
  for (const { tls, certificate } of started.exports.clients) {
    assert.deepEqual([tls, certificate], [true, "CN=db1,O=Hosts\\, and more"]);
  }
});

Deno.test("tls interop: who does not encrypt is refused when it must, and told so", async () => {
  await using started = await startTlsServer(REQUIRED);
  await assert.rejects(
    run("nbdinfo", `nbd://localhost:${started.port}/disk`),
    /TLS|encrypt/,
  );
  await assert.rejects(run("nbdinfo", "--list", `nbd://localhost:${started.port}`));
  assert.equal(started.exports.opened, 0);
});

Deno.test("tls interop: who does not encrypt is served when it may, and so is who does", async () => {
  await using started = await startTlsServer(ALLOWED);
  assert.equal(JSON.parse(await run("nbdinfo", "--json", `nbd://localhost:${started.port}/disk`)).TLS, false);
  assert.equal(JSON.parse(await run("nbdinfo", "--json", started.uri())).TLS, true);
});

Deno.test("tls interop: who wants encryption gets nothing from a server without it", async () => {
  await using started = await startTlsServer(undefined);
  await assert.rejects(run("nbdinfo", started.uri()), /TLS|closed/);
  assert.equal(started.exports.opened, 0);
});

Deno.test("tls interop: a client of another authority, or of none, is refused where one is demanded", async () => {
  await using started = await startTlsServer(DEMANDING);
  await using bare = await makeFolder();
  await Deno.copyFile(`${folder}/ca-cert.pem`, `${bare.path}/ca-cert.pem`);
  for (const certificates of [`${folder}/other`, bare.path]) {
    await assert.rejects(run("nbdinfo", started.uri(certificates)));
  }
  assert.equal(started.exports.opened, 0);
  assert.equal(JSON.parse(await run("nbdinfo", "--json", started.uri())).TLS, true);
});

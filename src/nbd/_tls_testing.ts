/** Certificates for tests, made by `openssl`. */
import { run } from "./_testing.ts";

/** Makes an authority in a folder: `ca-cert.pem`, `ca-key.pem`. */
export async function makeAuthority(folder: string, name = "Test CA"): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  await run("openssl", "req", "-x509", ...KEY, "-days", "2", "-subj", `/CN=${name}`, ...out(folder, "ca"));
}

/** Makes a certificate signed by the authority of the same folder: `NAME-cert.pem`, `NAME-key.pem`. */
export async function makeCertificate(folder: string, name: string, subject: string): Promise<void> {
  await Deno.writeTextFile(`${folder}/extensions`, "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  await run("openssl", "req", ...KEY, "-subj", subject, ...out(folder, name));
  await Deno.rename(`${folder}/${name}-cert.pem`, `${folder}/request`);
  await run(
    "openssl",
    ...["x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", `${folder}/extensions`],
    ...["-CA", `${folder}/ca-cert.pem`, "-CAkey", `${folder}/ca-key.pem`],
    ...["-in", `${folder}/request`, "-out", `${folder}/${name}-cert.pem`],
  );
}

/**
 * Makes an authority and certificates of it by the names that libnbd and qemu look for in a folder:
 * `ca-cert.pem`, `server-cert.pem`, `client-cert.pem` and their keys.
 */
export async function makeCertificates(folder: string): Promise<void> {
  await makeAuthority(folder);
  await makeCertificate(folder, "server", "/O=Varve/CN=localhost");
  await makeCertificate(folder, "client", "/O=Hosts, and more/CN=db1");
}

const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

function out(folder: string, name: string): string[] {
  return ["-keyout", `${folder}/${name}-key.pem`, "-out", `${folder}/${name}-cert.pem`];
}

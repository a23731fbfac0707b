import assert from "node:assert/strict";
import { VarveError } from "../src/base/errors.ts";
import { serveApi } from "./server.ts";
import { FakeEngine, MOTD } from "./testing/fake_engine.ts";

const { test } = Deno;

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function fetchUnix(path: string, address: string, init: RequestInit = {}): Promise<Response> {
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  const response = await fetch(`http://localhost${address}`, { ...init, client });
  return new Response(await response.bytes(), response);
}

async function refusal(listen: string[]): Promise<VarveError> {
  try {
    await serveApi({ engine: new FakeEngine(), listen });
  } catch (thrown) {
    assert.ok(thrown instanceof VarveError);
    return thrown;
  }
  throw new assert.AssertionError({ message: "the server started" });
}

test("the Unix socket is private, needs no token, and is gone after the end", () =>
  withFolder(async (folder) => {
    const path = `${folder}/run/api.sock`;
    const server = await serveApi({ engine: new FakeEngine(), listen: [`unix:${path}`] });
    assert.deepEqual(server.addresses, [`unix:${path}`]);
    assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o600);
    const response = await fetchUnix(path, "/v1/status");
    assert.equal(response.status, 200);
    await server.close();
    assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
  }));

test("TCP needs a token, and port 0 becomes the real one", async () => {
  const engine = new FakeEngine();
  const { token } = engine.createToken({ name: "reader", scopes: ["read"] });
  const server = await serveApi({ engine, listen: ["127.0.0.1:0"] });
  assert.match(server.addresses[0] ?? "", /^127\.0\.0\.1:[1-9]\d*$/);
  const url = `http://${server.addresses[0]}/v1/volumes`;
  const refused = await fetch(url);
  assert.equal(refused.status, 401);
  await refused.body?.cancel();
  const answered = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(answered.status, 200);
  await answered.body?.cancel();
  await server.close();
});

test("content comes over the wire with its length, whole and by HEAD", () =>
  withFolder(async (folder) => {
    const server = await serveApi({ engine: new FakeEngine(), listen: [`unix:${folder}/s`] });
    const address = "/v1/volumes/db/files/content?at=now&path=/etc/motd";
    const whole = await fetchUnix(`${folder}/s`, address);
    assert.equal(whole.headers.get("content-length"), String(MOTD.length));
    assert.equal(await whole.text(), MOTD);
    const head = await fetchUnix(`${folder}/s`, address, { method: "HEAD" });
    assert.equal(head.headers.get("content-length"), String(MOTD.length));
    await server.close();
  }));

test("a job is followed by server-sent events to its end", () =>
  withFolder(async (folder) => {
    const engine = new FakeEngine();
    const server = await serveApi({ engine, listen: [`unix:${folder}/s`] });
    const job = engine.startPrune("db");
    using client = Deno.createHttpClient({ proxy: { transport: "unix", path: `${folder}/s` } });
    const response = await fetch(`http://localhost/v1/jobs/${job.id}/events`, { client });
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    let text = "";
    for await (const chunk of response.body ?? []) {
      text += new TextDecoder().decode(chunk);
      if (text.includes('"succeeded"')) continue;
      if (text.includes('"doneBytes":512')) engine.changeJob(job.id, { state: "succeeded" });
      else engine.changeJob(job.id, { progress: { doneBytes: 512, totalBytes: 1024 } });
    }
    const events = text.trim().split("\n\n").map((event) => {
      const [name = "", data = ""] = event.split("\n");
      assert.equal(name, "event: job");
      return JSON.parse(data.slice("data: ".length));
    });
    assert.deepEqual(events.map(({ state, progress }) => [state, progress.doneBytes]), [
      ["running", 0],
      ["running", 512],
      ["succeeded", 512],
    ]);
    assert.equal(engine.watchers.get(job.id)?.size, 0);
    await server.close();
  }));

test("closing ends the event streams that are open", () =>
  withFolder(async (folder) => {
    const engine = new FakeEngine();
    const server = await serveApi({ engine, listen: [`unix:${folder}/s`] });
    const job = engine.startPrune("db");
    using client = Deno.createHttpClient({ proxy: { transport: "unix", path: `${folder}/s` } });
    const response = await fetch(`http://localhost/v1/jobs/${job.id}/events`, { client });
    const reader = response.body?.getReader();
    await reader?.read();
    const closed = server.close();
    assert.equal((await reader?.read())?.done, true);
    await closed;
    assert.equal(engine.watchers.get(job.id)?.size, 0);
  }));

test("a reader that leaves ends the watching", () =>
  withFolder(async (folder) => {
    const engine = new FakeEngine();
    const server = await serveApi({ engine, listen: [`unix:${folder}/s`] });
    const job = engine.startPrune("db");
    using client = Deno.createHttpClient({ proxy: { transport: "unix", path: `${folder}/s` } });
    const response = await fetch(`http://localhost/v1/jobs/${job.id}/events`, { client });
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    await server.close();
    assert.equal(engine.watchers.get(job.id)?.size, 0);
  }));

test("the socket of a dead server is replaced, that of a living one is not", () =>
  withFolder(async (folder) => {
    const path = `${folder}/s`;
    const script = `Deno.listen({ transport: "unix", path: ${
      JSON.stringify(path)
    } }); Deno.kill(Deno.pid, "SIGKILL");`;
    await new Deno.Command(Deno.execPath(), { args: ["eval", script], stderr: "null" }).output();
    assert.ok(Deno.lstatSync(path).isSocket);
    const server = await serveApi({ engine: new FakeEngine(), listen: [`unix:${path}`] });
    assert.equal((await refusal([`unix:${path}`])).code, "conflict");
    assert.equal((await fetchUnix(path, "/healthz")).status, 200);
    await server.close();
  }));

test("a file in the place of the socket is left alone", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/s`, "precious");
    assert.equal((await refusal([`unix:${folder}/s`])).code, "conflict");
    assert.equal(await Deno.readTextFile(`${folder}/s`), "precious");
  }));

test("when one address fails, those before it are closed again", () =>
  withFolder(async (folder) => {
    const first = await serveApi({ engine: new FakeEngine(), listen: ["127.0.0.1:0"] });
    const error = await refusal([`unix:${folder}/s`, first.addresses[0] ?? ""]);
    assert.equal(error.code, "conflict");
    assert.throws(() => Deno.lstatSync(`${folder}/s`), Deno.errors.NotFound);
    await first.close();
  }));

test("an address that cannot be read is refused before any is opened", async () => {
  for (const address of ["", "8460", "unix:", "host:99999", "http://host:1"]) {
    assert.equal((await refusal([address])).code, "invalid", address);
  }
});

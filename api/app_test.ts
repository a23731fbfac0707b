import assert from "node:assert/strict";
import { ERROR_CODES, VarveError } from "../src/base/errors.ts";
import { fakeScrub, MOTD, NOW } from "./testing/fake_engine.ts";
import { Harness } from "./testing/harness.ts";

const { test } = Deno;

test("GET /v1/status tells the whole appliance", async () => {
  const answer = await new Harness().call("GET", "/v1/status");
  assert.equal(answer.status, 200);
  assert.equal(answer.body.volumes[0].name, "db");
});

test("volumes are created, shown, listed and deleted", async () => {
  const api = new Harness();
  const made = await api.call("POST", "/v1/volumes", { body: { name: "mail", sizeBytes: 1 << 20 } });
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("location"), "/v1/volumes/mail");
  assert.deepEqual((await api.call("GET", "/v1/volumes/mail")).body, made.body);
  const listed = await api.call("GET", "/v1/volumes");
  assert.deepEqual(listed.body.volumes.map((volume: { name: string }) => volume.name), ["db", "mail"]);
  const gone = await api.call("DELETE", "/v1/volumes/mail?purge=true");
  assert.deepEqual([gone.status, gone.text], [204, ""]);
  assert.deepEqual(api.engine.audit.at(-1)?.details, { purge: true });
  assert.equal((await api.call("GET", "/v1/volumes/mail")).status, 404);
});

test("a volume is deleted without its history unless purge is asked for", async () => {
  const api = new Harness();
  await api.call("DELETE", "/v1/volumes/db?purge=false");
  assert.deepEqual(api.engine.audit.at(-1)?.details, { purge: false });
});

test("an existing primary is adopted without a size", async () => {
  const api = new Harness();
  const body = { name: "old", primary: { path: "/dev/sdb", adopt: true } };
  assert.equal((await api.call("POST", "/v1/volumes", { body })).status, 201);
  assert.deepEqual(api.engine.audit.at(-1)?.details, body);
});

test("a name that is taken is a conflict that names the field", async () => {
  const answer = await new Harness().call("POST", "/v1/volumes", { body: { name: "db", sizeBytes: 4096 } });
  assert.equal(answer.status, 409);
  assert.equal(answer.body.field, "name");
});

test("points come in pages and by kind", async () => {
  const api = new Harness();
  for (const name of ["a", "b"]) await api.call("POST", "/v1/volumes/db/marks", { body: { name } });
  const first = await api.call("GET", "/v1/volumes/db/points?limit=2");
  assert.equal(first.body.points.length, 2);
  const rest = await api.call("GET", `/v1/volumes/db/points?limit=2&cursor=${first.body.nextCursor}`);
  assert.deepEqual(rest.body.points.map((point: { name: string }) => point.name), ["b"]);
  assert.equal("nextCursor" in rest.body, false);
  for (const query of ["kind=mark&kind=tier", "kind=mark,tier"]) {
    await api.call("GET", `/v1/volumes/db/points?from=2%20hours%20ago&to=now&${query}`);
    assert.deepEqual(api.engine.pointsAsked, { from: "2 hours ago", to: "now", kinds: ["mark", "tier"] });
  }
});

test("marks are made, listed, changed and deleted", async () => {
  const api = new Harness();
  const made = await api.call("POST", "/v1/volumes/db/marks", {
    body: { name: "v1", note: "before", pinned: true },
  });
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("location"), "/v1/volumes/db/marks/v1");
  assert.equal(api.engine.audit.at(-1)?.actor, "unix");
  const changed = await api.call("PATCH", "/v1/volumes/db/marks/v1", { body: { pinned: false } });
  assert.deepEqual(changed.body, { ...made.body, pinned: false });
  assert.deepEqual((await api.call("GET", "/v1/volumes/db/marks")).body, { marks: [changed.body] });
  assert.equal((await api.call("DELETE", "/v1/volumes/db/marks/v1")).status, 204);
  assert.equal((await api.call("DELETE", "/v1/volumes/db/marks/v1")).status, 404);
});

test("retention is read, replaced and previewed", async () => {
  const api = new Harness();
  const policy = { continuous: "1h", tiers: [], maxBytes: 1 << 30, grace: "15m" };
  assert.deepEqual((await api.call("PUT", "/v1/volumes/db/retention", { body: policy })).body, policy);
  assert.deepEqual((await api.call("GET", "/v1/volumes/db/retention")).body, policy);
  const preview = "/v1/volumes/db/retention/preview";
  assert.equal((await api.call("POST", preview)).body.pointsLost, 0);
  const other = { continuous: "1h", tiers: [{ every: "1h", for: "1d" }] };
  assert.equal((await api.call("POST", preview, { body: other })).body.pointsLost, 1);
});

test("a time resolves to its moment", async () => {
  const answer = await new Harness().call("GET", "/v1/volumes/db/resolve?at=now");
  assert.deepEqual(answer.body, NOW);
});

test("a moment that is not retained answers 410 with the moments around it", async () => {
  const answer = await new Harness().call("GET", "/v1/volumes/db/resolve?at=2001-01-01T00:00:00Z");
  assert.equal(answer.status, 410);
  assert.equal(answer.body.code, "not-retained");
  assert.deepEqual(answer.body.newer, { time: "2026-11-22T09:00:00.000000Z", seq: 0 });
});

test("files of the past are listed, from the root unless told otherwise", async () => {
  const api = new Harness();
  const root = await api.call("GET", "/v1/volumes/db/files?at=now");
  assert.deepEqual(root.body.entries.map((file: { path: string }) => file.path), ["/etc/motd", "/motd"]);
  const file = await api.call("GET", "/v1/volumes/db/files?at=now&path=/etc/motd");
  assert.equal("entries" in file.body, false);
});

test("content is streamed with its length and name", async () => {
  const answer = await new Harness().call("GET", "/v1/volumes/db/files/content?at=now&path=/etc/motd");
  assert.equal(answer.text, MOTD);
  assert.equal(answer.headers.get("content-type"), "application/octet-stream");
  assert.equal(answer.headers.get("content-length"), String(MOTD.length));
  assert.equal(
    answer.headers.get("content-disposition"),
    `attachment; filename="motd"; filename*=UTF-8''motd`,
  );
});

test("content is served in part, and the source is let go", async () => {
  const api = new Harness();
  const path = "/v1/volumes/db/files/content?at=now&path=/etc/motd";
  const part = await api.call("GET", path, { headers: { range: "bytes=2-7" } });
  assert.equal(part.status, 206);
  assert.equal(part.text, MOTD.slice(2, 8));
  assert.equal(part.headers.get("content-range"), `bytes 2-7/${MOTD.length}`);
  assert.ok(api.engine.bodyCancelled);
  api.engine.bodyCancelled = false;
  const beyond = await api.call("GET", path, { headers: { range: "bytes=999-" } });
  assert.equal(beyond.status, 416);
  assert.equal(beyond.headers.get("content-range"), `bytes */${MOTD.length}`);
  assert.ok(api.engine.bodyCancelled);
  const whole = await api.call("GET", path, { headers: { range: "bytes=2-7", "if-range": '"other"' } });
  assert.equal(whole.text, MOTD);
});

test("HEAD on content tells the length and reads nothing", async () => {
  const api = new Harness();
  const answer = await api.call("HEAD", "/v1/volumes/db/files/content?at=now&path=/etc/motd");
  assert.deepEqual([answer.status, answer.text], [200, ""]);
  assert.equal(answer.headers.get("content-length"), String(MOTD.length));
  assert.ok(api.engine.bodyCancelled);
});

test("versions of a file and what a folder held before are listed", async () => {
  const api = new Harness();
  const versions = await api.call("GET", "/v1/volumes/db/files/versions?path=/etc/motd");
  assert.equal(versions.status, 200);
  assert.deepEqual(
    versions.body.versions.map((
      { from, file }: { from: { seq: number }; file?: unknown },
    ) => [from.seq, file !== undefined]),
    [[40, true], [0, false]],
  );
  const one = await api.call("GET", "/v1/volumes/db/files/versions?path=/etc/motd&limit=1");
  assert.deepEqual([one.body.versions.length, one.body.truncated], [1, true]);
  const deleted = await api.call("GET", "/v1/volumes/db/files/deleted?at=now&path=/etc");
  assert.deepEqual(deleted.body.files.map(({ file }: { file: { path: string } }) => file.path), [
    "/etc/lost",
  ]);
});

test("a diff tells blocks page by page, or files", async () => {
  const api = new Harness();
  const first = await api.call("GET", "/v1/volumes/db/diff?from=now&to=now&limit=1");
  assert.deepEqual(first.body.extents, [{ offset: 0, length: 4096 }]);
  const next = await api.call("GET", `/v1/volumes/db/diff?from=now&to=now&offset=${first.body.nextOffset}`);
  assert.deepEqual(next.body.extents, [{ offset: 65536, length: 8192 }]);
  assert.equal("nextOffset" in next.body, false);
  const files = await api.call("GET", "/v1/volumes/db/diff?from=now&to=now&files=true");
  assert.deepEqual(files.body.changes.map(({ kind }: { kind: string }) => kind), [
    "created",
    "deleted",
    "renamed",
  ]);
});

test("a recovery is a job that is shown, listed and cancelled", async () => {
  const api = new Harness();
  const body = { at: "now", target: "/tmp/disk.img", verify: true };
  const started = await api.call("POST", "/v1/volumes/db/recoveries", { body });
  assert.equal(started.status, 202);
  assert.equal(started.headers.get("location"), "/v1/jobs/j1");
  assert.deepEqual(api.engine.audit.at(-1)?.details, body);
  assert.deepEqual((await api.call("GET", "/v1/jobs/j1")).body, started.body);
  assert.deepEqual((await api.call("GET", "/v1/jobs")).body, { jobs: [started.body] });
  assert.equal((await api.call("DELETE", "/v1/jobs/j1")).body.state, "cancelled");
  assert.equal((await api.call("GET", "/v1/jobs/j2")).status, 404);
});

test("a prune is a job", async () => {
  const answer = await new Harness().call("POST", "/v1/volumes/db/prune");
  assert.deepEqual([answer.status, answer.headers.get("location")], [202, "/v1/jobs/j1"]);
});

test("a scrub is a job, and what the last one found can be asked for", async () => {
  const api = new Harness();
  const none = await api.call("GET", "/v1/volumes/db/scrub");
  assert.deepEqual([none.status, none.body.code], [404, "not-found"]);
  const answer = await api.call("POST", "/v1/volumes/db/scrub");
  assert.deepEqual([answer.status, answer.headers.get("location")], [202, "/v1/jobs/j1"]);
  assert.deepEqual([answer.body.kind, api.engine.scrubAsked], ["scrub", {}]);
  await api.call("POST", "/v1/volumes/db/scrub", { body: { rateBytes: 1000 } });
  assert.deepEqual(api.engine.scrubAsked, { rateBytes: 1000 });
  const wrong = await api.call("POST", "/v1/volumes/db/scrub", { body: { rateBytes: 0 } });
  assert.deepEqual([wrong.status, wrong.body.field], [400, "rateBytes"]);
  api.engine.finishScrub("db", fakeScrub());
  assert.deepEqual((await api.call("GET", "/v1/volumes/db/scrub")).body, fakeScrub());
  assert.equal((await api.call("GET", "/v1/volumes/db")).body.scrub.damagedPlaces, 2);
});

test("tokens are made with their secret, listed without it, and revoked", async () => {
  const api = new Harness();
  const made = await api.call("POST", "/v1/tokens", { body: { name: "backup", scopes: ["operate"] } });
  assert.equal(made.status, 201);
  assert.equal(made.body.token, "secret-backup");
  assert.equal((await api.call("GET", "/v1/tokens")).text.includes("secret"), false);
  assert.equal((await api.call("DELETE", `/v1/tokens/${made.body.id}`)).status, 204);
  assert.deepEqual((await api.call("GET", "/v1/tokens")).body, { tokens: [] });
});

test("the audit log comes newest first, as much as is asked for", async () => {
  const api = new Harness();
  for (const name of ["a", "b"]) await api.call("POST", "/v1/volumes/db/marks", { body: { name } });
  const answer = await api.call("GET", "/v1/audit?limit=1");
  assert.deepEqual(answer.body.entries.map((entry: { details: { name: string } }) => entry.details.name), [
    "b",
  ]);
});

test("health, readiness and the root need no token", async () => {
  const api = new Harness();
  assert.equal((await api.call("GET", "/healthz", { transport: "tcp" })).body.status, "ok");
  assert.equal((await api.call("GET", "/readyz", { transport: "tcp" })).status, 200);
  api.engine.problems.push("volume db is failed");
  const answer = await api.call("GET", "/readyz", { transport: "tcp" });
  assert.equal(answer.status, 503);
  assert.deepEqual(answer.body, { ready: false, problems: ["volume db is failed"] });
  assert.equal((await api.call("GET", "/", { transport: "tcp" })).body.name, "Varve");
});

test("every answer carries the security headers and no CORS header", async () => {
  const api = new Harness();
  for (const path of ["/v1/status", "/v1/nothing", "/openapi.json"]) {
    const { headers } = await api.call("GET", path, { headers: { origin: "https://example.net" } });
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.match(headers.get("content-security-policy") ?? "", /default-src 'none'/);
    assert.equal(headers.get("access-control-allow-origin"), null);
  }
});

test("an address that does not exist answers 404", async () => {
  const api = new Harness();
  for (
    const path of ["/v2/status", "/v1/volumes/db/versions", "/v1/volumes/", "/v1/volumes//points", "/docs"]
  ) {
    assert.equal((await api.call("GET", path)).body.code, "not-found", path);
  }
});

test("a volume is resized, and tells who changed it", async () => {
  const api = new Harness();
  const resized = await api.call("PATCH", "/v1/volumes/db", { body: { sizeBytes: 8192, force: true } });
  assert.deepEqual([resized.status, resized.body.sizeBytes], [200, 8192]);
  assert.equal((await api.call("PATCH", "/v1/volumes/db", { body: {} })).status, 400);
  assert.equal(
    (await api.call("PATCH", "/v1/volumes/db", { body: { sizeBytes: 1, name: "x" } })).status,
    400,
  );
  const { body } = await api.call("GET", "/v1/volumes/db/clients?limit=1");
  assert.deepEqual(body.clients, api.engine.listClients("db", { limit: 1 }));
});

test("a method that an address does not take answers 405 with those it takes", async () => {
  const answer = await new Harness().call("PUT", "/v1/volumes/db");
  assert.equal(answer.status, 405);
  assert.equal(answer.headers.get("allow"), "GET, PATCH, DELETE, HEAD");
});

test("every code of the engine becomes its status", async () => {
  const api = new Harness();
  const statuses: Record<string, number> = {};
  for (const code of ERROR_CODES) {
    api.engine.nextFailure = new VarveError(code, `trying ${code}: failed`, {
      hint: "Do this.",
      details: { a: 1 },
    });
    const answer = await api.call("GET", "/v1/volumes/db");
    assert.deepEqual([answer.body.code, answer.body.hint, answer.body.a], [code, "Do this.", 1]);
    statuses[code] = answer.status;
  }
  assert.deepEqual(statuses, {
    "invalid": 400,
    "not-found": 404,
    "conflict": 409,
    "not-retained": 410,
    "out-of-range": 416,
    "read-only": 403,
    "no-space": 507,
    "io": 500,
    "damaged": 500,
    "unsupported": 422,
    "forbidden": 403,
    "cancelled": 409,
  });
});

test("details of an error never replace the members of a problem", async () => {
  const api = new Harness();
  api.engine.nextFailure = new VarveError("conflict", "x: y", {
    details: { status: 200, code: "fine", type: "z" },
  });
  const answer = await api.call("GET", "/v1/volumes/db");
  assert.deepEqual([answer.body.status, answer.body.code], [409, "conflict"]);
});

test("an unexpected failure answers 500 and tells nothing of the inside", async () => {
  const api = new Harness();
  api.engine.nextFailure = new TypeError("secret of /internal/path.ts");
  const answer = await api.call("GET", "/v1/volumes/db");
  assert.equal(answer.status, 500);
  assert.equal(answer.body.code, "internal");
  assert.equal(answer.text.includes("secret"), false);
});

test("clones are made, listed, shown, promoted and deleted", async () => {
  const api = new Harness();
  const body = { volume: "db", at: "now", name: "c", budgetBytes: 1 << 20, ttl: false };
  const made = await api.call("POST", "/v1/clones", { body });
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("location"), "/v1/clones/c");
  assert.equal("expiresAt" in made.body, false);
  assert.deepEqual((await api.call("GET", "/v1/clones")).body, { clones: [made.body] });
  assert.deepEqual((await api.call("GET", "/v1/clones/c")).body, made.body);
  const promoted = await api.call("POST", "/v1/clones/c/promote", { body: { name: "db2" } });
  assert.deepEqual([promoted.status, promoted.body.kind, promoted.body.volume], [202, "promote", "db2"]);
  assert.equal(promoted.headers.get("location"), `/v1/jobs/${promoted.body.id}`);
  api.engine.clones.set("c", { ...api.engine.getClone("c"), connections: 1 });
  assert.equal((await api.call("DELETE", "/v1/clones/c")).status, 409);
  api.engine.clones.set("c", { ...api.engine.getClone("c"), connections: 0 });
  assert.equal((await api.call("DELETE", "/v1/clones/c")).status, 204);
  assert.equal((await api.call("GET", "/v1/clones/c")).status, 404);
});

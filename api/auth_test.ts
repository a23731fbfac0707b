import assert from "node:assert/strict";
import type { TokenScope } from "../src/engine.ts";
import { allows } from "./auth.ts";
import { Harness } from "./testing/harness.ts";

const { test } = Deno;

/** What every route needs, said a second time: a route that is added or eased must be added or eased here too. */
const NEEDED: Record<string, TokenScope | undefined> = {
  "GET /v1/status": "read",
  "GET /v1/volumes": "read",
  "POST /v1/volumes": "admin",
  "GET /v1/volumes/{volume}": "read",
  "PATCH /v1/volumes/{volume}": "admin",
  "DELETE /v1/volumes/{volume}": "admin",
  "GET /v1/volumes/{volume}/clients": "read",
  "GET /v1/volumes/{volume}/points": "read",
  "GET /v1/volumes/{volume}/marks": "read",
  "POST /v1/volumes/{volume}/marks": "operate",
  "PATCH /v1/volumes/{volume}/marks/{name}": "operate",
  "DELETE /v1/volumes/{volume}/marks/{name}": "operate",
  "GET /v1/volumes/{volume}/retention": "read",
  "PUT /v1/volumes/{volume}/retention": "admin",
  "POST /v1/volumes/{volume}/retention/preview": "read",
  "POST /v1/volumes/{volume}/prune": "admin",
  "POST /v1/volumes/{volume}/scrub": "operate",
  "GET /v1/volumes/{volume}/scrub": "read",
  "GET /v1/volumes/{volume}/resolve": "read",
  "GET /v1/volumes/{volume}/files": "read",
  "GET /v1/volumes/{volume}/files/content": "read",
  "GET /v1/volumes/{volume}/files/versions": "read",
  "GET /v1/volumes/{volume}/files/deleted": "read",
  "GET /v1/volumes/{volume}/diff": "read",
  "POST /v1/volumes/{volume}/recoveries": "operate",
  "GET /v1/clones": "read",
  "POST /v1/clones": "operate",
  "GET /v1/clones/{name}": "read",
  "DELETE /v1/clones/{name}": "operate",
  "POST /v1/clones/{name}/promote": "operate",
  "GET /v1/jobs": "read",
  "GET /v1/jobs/{id}": "read",
  "GET /v1/jobs/{id}/events": "read",
  "DELETE /v1/jobs/{id}": "operate",
  "GET /v1/tokens": "admin",
  "POST /v1/tokens": "admin",
  "DELETE /v1/tokens/{id}": "admin",
  "GET /v1/audit": "admin",
  "GET /v1/events": "read",
  "GET /metrics": "read",
  "GET /healthz": undefined,
  "GET /readyz": undefined,
  "GET /openapi.json": undefined,
};

const SCOPES: TokenScope[] = ["read", "operate", "admin"];

test("the routes of the app are exactly those of the table, each with its scope", () => {
  const found = Object.fromEntries(
    new Harness().routes().map(({ method, path, scope }) => [`${method} ${path}`, scope]),
  );
  assert.deepEqual(found, NEEDED);
});

for (const [route, needed] of Object.entries(NEEDED)) {
  const [method = "", template = ""] = route.split(" ");
  const path = template.replaceAll(/\{[^}]+\}/g, "x");
  const call = async (token?: string) => {
    const api = new Harness();
    for (const scope of SCOPES) api.engine.createToken({ name: scope, scopes: [scope] });
    const headers = token === undefined ? {} : { authorization: token };
    return await api.call(method, path, { transport: "tcp", headers });
  };

  test(`${route} needs ${needed === undefined ? "no token" : `the scope ${needed}`} over TCP`, async () => {
    if (needed === undefined) {
      assert.ok((await call()).status < 300);
      return;
    }
    for (const header of [undefined, "Bearer wrong", "Bearer", "Basic c2VjcmV0LWFkbWlu", "secret-admin"]) {
      const answer = await call(header);
      assert.equal(answer.status, 401, header);
      assert.match(answer.headers.get("www-authenticate") ?? "", /^Bearer realm="varve"/);
    }
    for (const scope of SCOPES) {
      const answer = await call(`Bearer secret-${scope}`);
      if (allows([scope], needed)) assert.ok(![401, 403].includes(answer.status), answer.text);
      else assert.equal(answer.status, 403, `${scope}: ${answer.text}`);
    }
  });
}

test("admin includes operate, which includes read", () => {
  const granted = SCOPES.map((held) => SCOPES.filter((needed) => allows([held], needed)));
  assert.deepEqual(granted, [["read"], ["read", "operate"], ["read", "operate", "admin"]]);
  assert.equal(allows([], "read"), false);
});

test("an address below /v1 that does not exist is not told apart without a token", async () => {
  assert.equal((await new Harness().call("GET", "/v1/nothing", { transport: "tcp" })).status, 401);
});

test("a request whose transport is not known counts as one over TCP", async () => {
  assert.equal((await new Harness().app.request("/v1/status")).status, 401);
});

test("the audit log names the token that asked", async () => {
  const api = new Harness();
  api.engine.createToken({ name: "backup", scopes: ["operate"] });
  const headers = { authorization: "Bearer secret-backup" };
  await api.call("POST", "/v1/volumes/db/marks", { body: { name: "a" }, headers, transport: "tcp" });
  assert.equal(api.engine.audit.at(-1)?.actor, "backup");
});

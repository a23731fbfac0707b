import assert from "node:assert/strict";
import path from "node:path";
import { Access } from "./access.ts";
import { Catalog } from "./catalog/catalog.ts";

const clock = { nowUs: () => Date.parse("2026-01-01T00:00:00Z") * 1000 };
const CALLER = { name: "me" };

async function withAccess(
  work: (access: Access, directory: string, catalog: Catalog) => void | Promise<void>,
): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "varve-access-" });
  const catalog = new Catalog(path.join(directory, "catalog.sqlite"));
  try {
    await work(new Access({ catalog, clock }), directory, catalog);
  } finally {
    catalog.close();
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("Access knows a token by its secret, and the database does not hold the secret", async () => {
  await withAccess((access, directory) => {
    const { token, ...info } = access.create({ name: "ci", scopes: ["read", "operate"] }, CALLER);
    assert.match(token, /^varve_[\w-]{43}$/);
    assert.deepEqual(info, {
      id: info.id,
      name: "ci",
      scopes: ["read", "operate"],
      createdAt: "2026-01-01T00:00:00.000Z",
    });
    assert.deepEqual(access.authenticate(token), info);
    assert.equal(access.authenticate(`${token}x`), undefined);
    assert.equal(access.authenticate(""), undefined);
    assert.deepEqual(access.list(), [info]);
    assert.notEqual(access.create({ name: "other", scopes: [] }, CALLER).token, token);
    const secret = token.slice("varve_".length);
    let files = 0;
    for (const { name } of Deno.readDirSync(directory)) {
      const text = new TextDecoder("latin1").decode(Deno.readFileSync(path.join(directory, name)));
      if (text.includes(info.id)) files++;
      assert.ok(!text.includes(secret), name);
    }
    assert.ok(files > 0, "the token's line was looked at");
  });
});

Deno.test("Access takes a token back, once, and names stay unique", async () => {
  await withAccess((access) => {
    const { token, id } = access.create({ name: "ci", scopes: ["read"] }, CALLER);
    assert.throws(() => access.create({ name: "ci", scopes: ["admin"] }, CALLER), {
      name: "VarveError",
      code: "conflict",
      field: "name",
    });
    access.revoke(id, CALLER);
    assert.equal(access.authenticate(token), undefined);
    assert.throws(() => access.revoke(id, CALLER), { name: "VarveError", code: "not-found" });
    assert.deepEqual(access.audit().map(({ action, actor }) => [action, actor]), [
      ["token.revoke", "me"],
      ["token.create", "me"],
    ]);
  });
});

Deno.test("Access writes the first administrator's token to a file of mode 0600, once", async () => {
  await withAccess(async (access, directory) => {
    const place = path.join(directory, "admin.token");
    Deno.writeTextFileSync(place, "left from before", { mode: 0o644 });
    await access.ensureAdministrator(directory);
    const token = Deno.readTextFileSync(place).trim();
    assert.equal((Deno.statSync(place).mode ?? 0) & 0o777, 0o600);
    assert.deepEqual(access.authenticate(token)?.scopes, ["admin"]);
    await access.ensureAdministrator(directory);
    assert.equal(Deno.readTextFileSync(place).trim(), token);
    assert.equal(access.list().length, 1);
  });
});

Deno.test("Access makes no administrator whose token could not be written down", async () => {
  await withAccess(async (access, directory) => {
    await assert.rejects(access.ensureAdministrator(path.join(directory, "none")));
    assert.deepEqual(access.list(), []);
    await access.ensureAdministrator(directory);
    assert.equal(access.list().length, 1);
  });
});

Deno.test("Access shows the newest lines of the audit log first, as many as asked for", async () => {
  await withAccess((access) => {
    for (let i = 0; i < 150; i++) access.record(CALLER, "mark.create", `v${i}`, { i });
    assert.equal(access.audit().length, 100);
    const [newest, second] = access.audit(2);
    assert.equal(access.audit(2).length, 2);
    assert.deepEqual([newest?.subject, second?.subject], ["v149", "v148"]);
    assert.deepEqual([newest?.details, newest?.time], [{ i: 149 }, "2026-01-01T00:00:00.000Z"]);
  });
});

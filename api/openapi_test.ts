import assert from "node:assert/strict";
import { Harness } from "./testing/harness.ts";

const { test } = Deno;

// deno-lint-ignore no-explicit-any -- The test is about what this document is.
async function load(): Promise<any> {
  return (await new Harness().call("GET", "/openapi.json")).body;
}

test("the description is OpenAPI 3.1 and every reference in it leads somewhere", async () => {
  const document = await load();
  assert.match(document.openapi, /^3\.1\./);
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map(([, path = ""]) =>
    path
  );
  assert.ok(references.length > 50);
  for (const path of references) {
    const target = path.split("/").reduce((node, part) => node?.[part], document);
    assert.notEqual(target, undefined, path);
  }
});

test("every route is described, and every operation has a name of its own, a summary, a tag and its failures", async () => {
  const document = await load();
  const tags = document.tags.map((tag: { name: string }) => tag.name);
  const names = new Set<string>();
  for (const { method, path, scope } of new Harness().routes()) {
    const operation = document.paths[path]?.[method.toLowerCase()];
    assert.notEqual(operation, undefined, `${method} ${path}`);
    names.add(operation.operationId);
    assert.ok(operation.summary.length > 0);
    assert.ok(operation.tags.every((tag: string) => tags.includes(tag)));
    assert.deepEqual(operation.security, scope === undefined ? [] : [{ token: [scope] }]);
    if (scope !== undefined) {
      const problem = operation.responses["4XX"].content["application/problem+json"].schema;
      assert.deepEqual(problem, { $ref: "#/components/schemas/Problem" });
    }
  }
  assert.equal(names.size, new Harness().routes().length);
  assert.equal(document.components.securitySchemes.token.scheme, "bearer");
});

test("every parameter of a path is described as one, and required", async () => {
  const document = await load();
  for (
    const [path, operations] of Object.entries<Record<string, { parameters?: unknown[] }>>(document.paths)
  ) {
    const wanted = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
    for (const operation of Object.values(operations)) {
      const described = (operation.parameters ?? [] as unknown[])
        .map((parameter) => parameter as { in: string; name: string; required: boolean })
        .filter((parameter) => parameter.in === "path");
      assert.deepEqual(described.map(({ name }) => name), wanted, path);
      assert.ok(described.every(({ required }) => required));
    }
  }
});

test("bodies are strict objects with descriptions of what they hold", async () => {
  const { components } = await load();
  for (
    const name of [
      "NewVolume",
      "NewMark",
      "MarkChange",
      "Retention",
      "NewRecovery",
      "NewTokenRequest",
      "NewClone",
      "Promotion",
    ]
  ) {
    assert.equal(components.schemas[name].additionalProperties, false, name);
  }
});

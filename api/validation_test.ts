import assert from "node:assert/strict";
import { Harness } from "./testing/harness.ts";

const { test } = Deno;

interface Case {
  title: string;
  method: string;
  path: string;
  body?: unknown;
  /** Every field at fault, in any order. */
  fields: string[];
}

const db = "/v1/volumes/db";

const CASES: Case[] = [
  {
    title: "a volume without anything",
    method: "POST",
    path: "/v1/volumes",
    body: {},
    fields: ["name", "sizeBytes"],
  },
  {
    title: "a volume with every fault at once",
    method: "POST",
    path: "/v1/volumes",
    body: { name: "-x", sizeBytes: -1, primary: { path: "relative", adopt: "yes", adpt: 1 }, size: 1 },
    fields: ["name", "sizeBytes", "primary.path", "primary.adopt", "primary.adpt", "size"],
  },
  ...["", ".x", "a/b", "a b", "ä", "x".repeat(65), 7, null].map((name): Case => ({
    title: `the name ${JSON.stringify(name)}`,
    method: "POST",
    path: "/v1/volumes",
    body: { name, sizeBytes: 4096 },
    fields: ["name"],
  })),
  ...[0, -1, 1.5, "10G", 2 ** 53, null].map((sizeBytes): Case => ({
    title: `the size ${JSON.stringify(sizeBytes)}`,
    method: "POST",
    path: "/v1/volumes",
    body: { name: "x", sizeBytes },
    fields: ["sizeBytes"],
  })),
  {
    title: "a size left out although nothing is adopted",
    method: "POST",
    path: "/v1/volumes",
    body: { name: "x", primary: { path: "/dev/sdb" } },
    fields: ["sizeBytes"],
  },
  ...[[], "x", 1, null].map((body): Case => ({
    title: `the body ${JSON.stringify(body)}`,
    method: "POST",
    path: "/v1/volumes",
    body: JSON.stringify(body),
    fields: ["body"],
  })),
  { title: "malformed JSON", method: "POST", path: "/v1/volumes", body: '{"name":', fields: ["body"] },
  { title: "an empty body", method: "POST", path: `${db}/marks`, body: "", fields: ["body"] },
  { title: "an odd purge", method: "DELETE", path: `${db}?purge=yes`, fields: ["purge"] },
  {
    title: "a mark with a bad name",
    method: "POST",
    path: `${db}/marks`,
    body: { name: "a/b" },
    fields: ["name"],
  },
  {
    title: "a mark with a long note",
    method: "POST",
    path: `${db}/marks`,
    body: { name: "a", note: "n".repeat(1001), pinned: 1 },
    fields: ["note", "pinned"],
  },
  {
    title: "a clone with every fault at once",
    method: "POST",
    path: "/v1/clones",
    body: { volume: 1, at: "", name: "a/b", budgetBytes: 0, ttl: true, size: 1 },
    fields: ["volume", "at", "name", "budgetBytes", "ttl", "size"],
  },
  {
    title: "a promotion without a name",
    method: "POST",
    path: "/v1/clones/c/promote",
    body: {},
    fields: ["name"],
  },
  { title: "a change of nothing", method: "PATCH", path: `${db}/marks/a`, body: {}, fields: ["body"] },
  {
    title: "a new name",
    method: "PATCH",
    path: `${db}/marks/a`,
    body: { name: "b", pinned: true },
    fields: ["name"],
  },
  {
    title: "a policy with every fault at once",
    method: "PUT",
    path: `${db}/retention`,
    body: {
      continuous: "1 fortnight",
      tiers: [{ every: "1h" }, 5],
      maxBytes: 0,
      grace: "",
      onFull: "wait",
      keep: 1,
    },
    fields: ["continuous", "tiers.0.for", "tiers.1", "maxBytes", "grace", "onFull", "keep"],
  },
  {
    title: "a policy without tiers",
    method: "PUT",
    path: `${db}/retention`,
    body: { continuous: "1h" },
    fields: ["tiers"],
  },
  {
    title: "a previewed policy",
    method: "POST",
    path: `${db}/retention/preview`,
    body: { continuous: "x", tiers: [] },
    fields: ["continuous"],
  },
  {
    title: "a recovery",
    method: "POST",
    path: `${db}/recoveries`,
    body: { at: "", target: "disk.img", verify: "no" },
    fields: ["at", "target", "verify"],
  },
  {
    title: "a token",
    method: "POST",
    path: "/v1/tokens",
    body: { name: "unix", scopes: ["root"] },
    fields: ["name", "scopes.0"],
  },
  {
    title: "a token without scopes",
    method: "POST",
    path: "/v1/tokens",
    body: { name: "a", scopes: [] },
    fields: ["scopes"],
  },
  { title: "no time", method: "GET", path: `${db}/resolve`, fields: ["at"] },
  { title: "a time twice", method: "GET", path: `${db}/resolve?at=now&at=now`, fields: ["at"] },
  { title: "a time that is none", method: "GET", path: `${db}/resolve?at=soon`, fields: ["at"] },
  { title: "no time for files", method: "GET", path: `${db}/files?path=etc`, fields: ["at", "path"] },
  { title: "no path for versions", method: "GET", path: `${db}/files/versions`, fields: ["path"] },
  { title: "versions at a time", method: "GET", path: `${db}/files/versions?path=/a&at=now`, fields: ["at"] },
  { title: "no time for deleted files", method: "GET", path: `${db}/files/deleted`, fields: ["at"] },
  { title: "half a diff", method: "GET", path: `${db}/diff?from=now&files=maybe`, fields: ["to", "files"] },
  { title: "no path for content", method: "GET", path: `${db}/files/content?at=now`, fields: ["path"] },
  {
    title: "a query of points",
    method: "GET",
    path: `${db}/points?limit=0&kind=mark,odd&form=now`,
    fields: ["limit", "kind.1", "form"],
  },
  { title: "a limit beyond the largest", method: "GET", path: `${db}/points?limit=10001`, fields: ["limit"] },
  { title: "a limit that is no number", method: "GET", path: "/v1/audit?limit=many", fields: ["limit"] },
];

for (const { title, method, path, body, fields } of CASES) {
  test(`bad input: ${title}`, async () => {
    const answer = await new Harness().call(method, path, body === undefined ? {} : { body });
    assert.equal(answer.status, 400, answer.text);
    assert.equal(answer.body.code, "invalid");
    const named = answer.body.errors?.map((error: { field: string }) => error.field) ?? [answer.body.field];
    assert.deepEqual(named.toSorted(), fields.toSorted());
    assert.ok(named.includes(answer.body.field));
  });
}

test("an unknown field is answered with the known ones", async () => {
  const answer = await new Harness().call("POST", "/v1/volumes", {
    body: { name: "a", sizeBytes: 1, size: 1 },
  });
  assert.deepEqual(answer.body.errors, [
    { field: "size", message: "is not a field here; accepted are: name, sizeBytes, primary" },
  ]);
});

test("a body that is not JSON answers 415", async () => {
  const api = new Harness();
  for (const type of ["text/plain", "application/x-www-form-urlencoded"]) {
    const answer = await api.call("POST", "/v1/volumes", { body: "{}", headers: { "content-type": type } });
    assert.equal(answer.status, 415);
  }
});

test("a body above 1 MiB answers 413, with or without a length", async () => {
  const api = new Harness();
  const body = JSON.stringify({ name: "a".repeat(1024 * 1024) });
  assert.equal((await api.call("POST", "/v1/volumes", { body })).status, 413);
  const length = { "content-length": String(body.length) };
  assert.equal((await api.call("POST", "/v1/volumes", { body, headers: length })).status, 413);
});

import assert from "node:assert/strict";
import { VarveError } from "./errors.ts";

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: something`), { code });
}

Deno.test("VarveError.from() classes the errors of the operating system", () => {
  const cases = {
    ENOSPC: "no-space",
    EDQUOT: "no-space",
    EFBIG: "no-space",
    ENOENT: "not-found",
    EACCES: "forbidden",
    EPERM: "forbidden",
    EROFS: "read-only",
    EEXIST: "conflict",
    EBUSY: "conflict",
    EIO: "io",
  };
  for (const [found, code] of Object.entries(cases)) {
    const thrown = systemError(found);
    const error = VarveError.from(thrown, "write /x");
    assert.equal(error.code, code, found);
    assert.equal(error.message, `write /x: ${found}: something`);
    assert.equal(error.cause, thrown);
  }
});

Deno.test("VarveError.from() knows SQLite's words for a full storage", () => {
  const sqlite = (errcode: number) =>
    Object.assign(new Error("database or disk is full"), { code: "ERR_SQLITE_ERROR", errcode });
  assert.equal(VarveError.from(sqlite(13), "index").code, "no-space");
  assert.equal(VarveError.from(sqlite(4874), "index").code, "no-space");
  assert.equal(VarveError.from(sqlite(10), "index").code, "io");
});

Deno.test("VarveError.from() keeps a VarveError and takes anything else for a failure of storage", () => {
  const known = new VarveError("damaged", "read: it does not match");
  assert.equal(VarveError.from(known, "anything"), known);
  assert.equal(VarveError.from("text", "read").message, "read: text");
  assert.equal(VarveError.from(undefined, "read").code, "io");
  assert.equal(VarveError.from(null, "read").code, "io");
});

Deno.test("VarveError survives a message between threads with all that it says", () => {
  const full = new VarveError("conflict", "create: it exists", {
    hint: "Choose another name.",
    field: "name",
    details: { name: "a" },
  });
  for (const error of [full, new VarveError("io", "read: failed")]) {
    const again = VarveError.fromMessage(structuredClone(error.toMessage()));
    assert.deepEqual(again.toMessage(), error.toMessage());
    assert.ok(again instanceof VarveError);
  }
  assert.equal("cause" in full, false);
});

import assert from "node:assert/strict";
import { constants } from "node:os";
import { ERROR_CODES, VarveError } from "../src/base/errors.ts";
import { ERRNO, errnoName, errnoOf, errnoOfThrown } from "./errno.ts";

Deno.test("ERRNO has the numbers of this system", () => {
  for (const [name, value] of Object.entries(ERRNO)) {
    assert.equal(value, constants.errno[name as keyof typeof constants.errno], name);
    assert.equal(errnoName(value), name);
  }
  assert.equal(errnoName(9999), "errno 9999");
});

Deno.test("every code has an error number, and anything else is EIO", () => {
  for (const code of ERROR_CODES) assert.equal(typeof errnoOf(code), "number", code);
  assert.equal(errnoOfThrown(new VarveError("not-retained", "gone")), ERRNO.ENOENT);
  assert.equal(errnoOfThrown(new VarveError("damaged", "bad")), ERRNO.EIO);
  assert.equal(errnoOfThrown(new TypeError("ours")), ERRNO.EIO);
});

import assert from "node:assert/strict";
import { VarveError } from "../src/base/errors.ts";
import { DEFAULT_CONFIG, makeConfig } from "./config.ts";

const { test } = Deno;

const file = (content: unknown) => ({ path: "config.json", text: JSON.stringify(content) });

test("without anything the defaults hold", () => {
  assert.deepEqual(makeConfig({}), DEFAULT_CONFIG);
});

test("the file beats the defaults, and flags beat the file", () => {
  const told = file({ data: "/a", mount: false, nbd: ["127.0.0.1:10809"] });
  assert.deepEqual(makeConfig({ data: "/b" }, told), {
    data: "/b",
    mount: false,
    nbd: ["127.0.0.1:10809"],
    api: DEFAULT_CONFIG.api,
    baselineRate: DEFAULT_CONFIG.baselineRate,
    scrub: DEFAULT_CONFIG.scrub,
  });
  assert.equal(makeConfig({ mount: "/m" }, told).mount, "/m");
});

test("scrubs by themselves are set in parts, or switched off", () => {
  assert.deepEqual(makeConfig({}, file({ scrub: { every: "1d" } })).scrub, {
    every: "1d",
    rateBytes: 64 * 1024 * 1024,
  });
  assert.equal(makeConfig({}, file({ scrub: false })).scrub, false);
  const wrong: [scrub: unknown, told: RegExp][] = [
    [true, /scrub must be false, or such as \{every/],
    [{ every: "often" }, /scrub\.every must be a duration such as 7d/],
    [{ rateBytes: 0 }, /scrub\.rateBytes must be a number of bytes above 0/],
    [{ rate: 1 }, /rate is not a key of scrub; known are: every, rateBytes/],
  ];
  for (const [scrub, told] of wrong) assert.throws(() => makeConfig({}, file({ scrub })), told);
});

test("every fault of a file is told at once", () => {
  const wrong = file({ data: "here", mount: true, nbd: [], api: ["unix:/s", "8460"], port: 1 });
  assert.throws(() => makeConfig({}, wrong), (error) => {
    assert.ok(error instanceof VarveError);
    assert.equal(error.code, "invalid");
    for (const key of ["data", "mount", "nbd", "api.1", "port"]) {
      assert.match(error.message, new RegExp(`[:;] ${key} (must|is not)`), key);
    }
    return true;
  });
});

test("storage takes numbers of bytes", () => {
  const storage = { reserveBytes: 1 << 20, watermarkBytes: 8 << 20 };
  assert.deepEqual(makeConfig({}, file({ storage })).storage, storage);
  assert.throws(
    () => makeConfig({}, file({ storage: { reserveBytes: "1M", size: 1 } })),
    /storage\.reserveBytes must be a whole number of bytes.*size is not a key of storage/s,
  );
});

test("flags are checked like the file", () => {
  assert.throws(
    () => makeConfig({ api: ["nowhere"] }),
    /Reading options: api\.0 must be unix:\/path or HOST:PORT/,
  );
});

test("a file that is no JSON, or no object, is refused", () => {
  assert.throws(() => makeConfig({}, { path: "c.json", text: "{" }), /Reading c\.json: /);
  assert.throws(() => makeConfig({}, file([])), /Reading config\.json: the whole must be an object/);
});

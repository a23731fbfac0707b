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
    mountAllowOther: false,
    nbd: ["127.0.0.1:10809"],
    nbdTls: { mode: "off" },
    nbdPlainTcp: false,
    nbdMaxConnections: 256,
    nbdIdleTimeout: false,
    kernelReaders: false,
    api: DEFAULT_CONFIG.api,
    baselineRate: DEFAULT_CONFIG.baselineRate,
    scrub: DEFAULT_CONFIG.scrub,
  });
  assert.equal(makeConfig({ mount: "/m" }, told).mount, "/m");
});

test("other users see the tree only by choice", () => {
  assert.equal(makeConfig({}, file({ mount: "/m" })).mountAllowOther, false);
  assert.equal(makeConfig({}, file({ mountAllowOther: true })).mountAllowOther, true);
  assert.equal(makeConfig({ mountAllowOther: true }, file({ mountAllowOther: false })).mountAllowOther, true);
  assert.throws(
    () => makeConfig({}, file({ mountAllowOther: "yes" })),
    /mountAllowOther must be true or false/,
  );
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

test("TLS is told in the file, in flags, or in parts by both", () => {
  const told = file({ nbdTls: { certificate: "/c.pem", key: "/k.pem", clientCa: "/ca.pem" } });
  assert.deepEqual(makeConfig({ nbdTls: { mode: "require", key: "/other.pem" } }, told).nbdTls, {
    mode: "require",
    certificate: "/c.pem",
    key: "/other.pem",
    clientCa: "/ca.pem",
  });
  const wrong: [tls: unknown, told: RegExp][] = [
    [{ mode: "always" }, /nbdTls\.mode must be require, allow or off/],
    [{ mode: "allow", certificate: "/c.pem" }, /nbdTls of mode allow needs certificate and key/],
    [{ mode: "off", certificate: "c.pem" }, /nbdTls\.certificate must be an absolute path/],
    [{ requireClientCertificate: true }, /requireClientCertificate needs clientCa/],
    [{ cert: "/c.pem" }, /cert is not a key of nbdTls; known are: mode/],
    [true, /nbdTls must be such as/],
  ];
  for (const [nbdTls, told] of wrong) {
    assert.throws(() => makeConfig({}, file({ nbdTls })), { code: "invalid", message: told });
  }
});

test("plain TCP beyond this machine is refused unless TLS is demanded or it is asked for by name", () => {
  const files = { certificate: "/c.pem", key: "/k.pem" };
  for (const address of ["0.0.0.0:10809", "[::]:10809", "10.0.0.1:10809", "nas:10809", "127.example:1"]) {
    const nbd = ["unix:/s", address];
    for (const flags of [{ nbd }, { nbd, nbdTls: { ...files, mode: "allow" as const } }]) {
      assert.throws(() => makeConfig(flags), (error) => {
        assert.ok(error instanceof VarveError && error.code === "invalid");
        assert.match(error.message, /^Serve NBD at .*10809|127\.example/);
        assert.match(error.hint ?? "", /--nbd-tls require/);
        return true;
      });
    }
    assert.deepEqual(makeConfig({ nbd, nbdPlainTcp: true }).nbd, nbd);
    assert.deepEqual(makeConfig({ nbd, nbdTls: { ...files, mode: "require" } }).nbd, nbd);
  }
  for (const address of ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1", "unix:/s", "stdio"]) {
    assert.deepEqual(makeConfig({ nbd: [address] }).nbd, [address]);
  }
});

test("standard input and output serve one client", () => {
  assert.throws(() => makeConfig({ nbd: ["stdio", "stdio"] }), /nbd must hold stdio once at most/);
  assert.throws(() => makeConfig({ api: ["stdio"] }), /api\.0 must be unix/);
});

test("with passed sockets, NBD listens nowhere else unless told", () => {
  assert.deepEqual(makeConfig({}, undefined, true).nbd, []);
  assert.deepEqual(makeConfig({ nbd: ["unix:/s"] }, undefined, true).nbd, ["unix:/s"]);
  assert.deepEqual(makeConfig({}, file({ nbd: ["unix:/s"] }), true).nbd, ["unix:/s"]);
  assert.throws(() => makeConfig({}, file({ nbd: [] }), true), /nbd must hold at least one address/);
});

test("idle clients may stay, or for a duration", () => {
  assert.equal(makeConfig({ nbdIdleTimeout: "10m" }).nbdIdleTimeout, "10m");
  assert.equal(makeConfig({}, file({ nbdIdleTimeout: false })).nbdIdleTimeout, false);
  for (const wrong of ["soon", "0s", ""]) {
    assert.throws(
      () => makeConfig({ nbdIdleTimeout: wrong }),
      /nbdIdleTimeout must be a duration such as 7d, or false/,
    );
  }
});

test("the number of clients is one from 1 on", () => {
  assert.equal(makeConfig({ nbdMaxConnections: 3 }).nbdMaxConnections, 3);
  assert.throws(() => makeConfig({ nbdMaxConnections: 0 }), /nbdMaxConnections must be a number above 0/);
});

test("the host's kernel reads guests' disks only when somebody says so", () => {
  assert.equal(makeConfig({}).kernelReaders, false);
  assert.equal(makeConfig({}, file({ kernelReaders: true })).kernelReaders, true);
  assert.equal(makeConfig({ kernelReaders: true }).kernelReaders, true);
  assert.throws(() => makeConfig({}, file({ kernelReaders: "yes" })), /kernelReaders must be true or false/);
});

import assert from "node:assert/strict";
import { makeFolder } from "./_testing.ts";
import { takePassedSockets } from "./activation.ts";
import { adoptListener } from "./listener.ts";

function environment(variables: Record<string, string>): Map<string, string> {
  return new Map(Object.entries({ HOME: "/root", ...variables }));
}

Deno.test("activation: descriptors from 3 on, with their names, and no variables stay", () => {
  const variables = environment({ LISTEN_PID: "42", LISTEN_FDS: "3", LISTEN_FDNAMES: "nbd::other" });
  assert.deepEqual(takePassedSockets(variables, 42), [
    { fd: 3, name: "nbd" },
    { fd: 4, name: "" },
    { fd: 5, name: "other" },
  ]);
  assert.deepEqual([...variables.keys()], ["HOME"]);
  assert.deepEqual(takePassedSockets(environment({ LISTEN_PID: "42", LISTEN_FDS: "1" }), 42), [
    { fd: 3, name: "" },
  ]);
});

Deno.test("activation: what is for another process, or nothing at all, is no socket of ours", () => {
  for (
    const variables of [{ LISTEN_PID: "41", LISTEN_FDS: "1" }, { LISTEN_FDS: "1" }, { LISTEN_PID: "42" }, {}]
  ) {
    assert.deepEqual(takePassedSockets(environment(variables), 42), []);
  }
});

Deno.test("activation: variables that make no sense are told", () => {
  for (const LISTEN_FDS of ["0", "-1", "x", "1.5", "9999", ""]) {
    assert.throws(() => takePassedSockets(environment({ LISTEN_PID: "42", LISTEN_FDS }), 42), {
      code: "invalid",
    });
  }
  const named = environment({ LISTEN_PID: "42", LISTEN_FDS: "1", LISTEN_FDNAMES: "a:b" });
  assert.throws(() => takePassedSockets(named, 42), { code: "invalid" });
});

Deno.test("activation: only a listening stream socket is adopted", async () => {
  await using folder = await makeFolder();
  using file = await Deno.open(`${folder.path}/file`, { create: true, write: true });
  assert.ok(file);
  // Descriptors of files and of sockets that do not listen, whatever they are in this process, and none at all.
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    assert.throws(() => adoptListener(Number(name)), { code: "invalid" });
  }
  assert.throws(() => adoptListener(999_999), { code: "invalid" });
});

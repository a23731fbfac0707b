import assert from "node:assert/strict";
import { resolve } from "node:path";
import plugin from "./room_rule.ts";

/** Lints one line as if it stood in `path`, a path from the root, and returns the messages. */
function lint(path: string, source: string): string[] {
  const file = resolve(import.meta.dirname ?? "", "..", path);
  return Deno.lint.runPlugin(plugin, file, source).map((diagnostic) => {
    assert.equal(diagnostic.id, "varve/rooms");
    return diagnostic.message;
  });
}

Deno.test("room rule lets imports point towards src/base", () => {
  const cases: [string, string][] = [
    ["src/base/time.ts", 'import { VarveError } from "./errors.ts";'],
    ["src/disk/file_disk.ts", 'import { VarveError } from "../base/errors.ts";'],
    ["src/guestfs/ext/ext.ts", 'import { VarveError } from "../../base/errors.ts";'],
    ["src/journal/writer.ts", 'export * from "../disk/disk.ts";'],
    ["src/timeline/view.ts", 'import { openGuestDisk } from "../guestfs/mod.ts";'],
    ["src/volume/volume.ts", 'import { View } from "../timeline/view.ts";'],
    ["src/appliance.ts", 'import { serveNbd } from "./nbd/server.ts";'],
    ["src/appliance.ts", 'import type { Engine } from "./engine.ts";'],
    ["fuse/tree.ts", 'import { openGuestDisk } from "../src/guestfs/mod.ts";'],
    ["cli/status.ts", 'import { formatSize } from "../src/base/units.ts";'],
    ["cli/status.ts", 'import { schemas } from "../api/schemas.ts";'],
    [
      "cli/serve.ts",
      'import { mount } from "../fuse/mount.ts";\nimport { Appliance } from "../src/appliance.ts";',
    ],
    ["cli/serve_command.ts", 'const { serve } = await import("./serve.ts");'],
    ["src/base/errors.ts", 'import { z } from "zod";\nimport fs from "node:fs";'],
    ["src/appliance.ts", 'import config from "../deno.json" with { type: "json" };'],
  ];
  for (const [path, source] of cases) assert.deepEqual(lint(path, source), [], `${path}: ${source}`);
});

Deno.test("room rule refuses every other direction", () => {
  const cases: [string, string, string][] = [
    ["src/base/time.ts", 'import "../disk/disk.ts";', "src/base may not import src/disk"],
    ["src/disk/file_disk.ts", 'import "../journal/reader.ts";', "src/disk may not import src/journal"],
    ["src/catalog/catalog.ts", 'import "../timeline/view.ts";', "src/catalog may not import src/timeline"],
    ["src/timeline/view.ts", 'import "../volume/volume.ts";', "src/timeline may not import src/volume"],
    ["src/nbd/server.ts", 'import "../volume/volume.ts";', "src/nbd may not import src/volume"],
    ["src/guestfs/ext/ext.ts", 'import "../../disk/disk.ts";', "src/guestfs may not import src/disk"],
    ["src/volume/volume.ts", 'import "../appliance.ts";', "src/volume may not import src "],
    ["src/volume/volume.ts", 'import "../../api/app.ts";', "src/volume may not import api"],
    ["src/appliance.ts", 'import "../fuse/mount.ts";', "src may not import fuse"],
    ["fuse/tree.ts", 'import "../api/app.ts";', "fuse may not import api"],
    ["fuse/tree.ts", 'import "../src/appliance.ts";', "fuse may not import src "],
    ["api/app.ts", 'import "../fuse/tree.ts";', "api may not import fuse"],
    ["api/app.ts", 'import "../cli/serve.ts";', "api may not import cli"],
    ["cli/status.ts", 'import "../fuse/mount.ts";', "cli may not import fuse"],
    ["cli/status.ts", 'import "../src/volume/volume.ts";', "cli may not import src/volume"],
    ["api/app.ts", 'import "../tests/support/hosts.ts";', "api may not import tests"],
  ];
  for (const [path, source, expected] of cases) {
    const messages = lint(path, source);
    assert.equal(messages.length, 1, `${path}: ${source}`);
    assert.ok(messages[0]?.startsWith(expected), `${messages[0]} should begin with ${expected}`);
  }
});

Deno.test("room rule lets some rooms have the types of src/engine.ts, and none of them its values", () => {
  for (const path of ["src/timeline/a.ts", "src/volume/a.ts", "fuse/a.ts", "api/a.ts", "cli/a.ts"]) {
    const engine = path.startsWith("src/") ? "../engine.ts" : "../src/engine.ts";
    assert.deepEqual(lint(path, `import type { Engine } from "${engine}";`), [], path);
    assert.deepEqual(lint(path, `export type { Engine } from "${engine}";`), [], path);
    assert.deepEqual(lint(path, `let engine: import("${engine}").Engine;`), [], path);
    // An inline `type` leaves the import itself standing when modules are run.
    assert.equal(lint(path, `import { type Engine } from "${engine}";`).length, 1, path);
  }
  assert.equal(lint("src/nbd/a.ts", 'import type { Engine } from "../engine.ts";').length, 1);
});

Deno.test("room rule follows every way to name another file", () => {
  const forms = [
    'import "../fuse/a.ts";',
    'import type { A } from "../fuse/a.ts";',
    'export * from "../fuse/a.ts";',
    'export { a } from "../fuse/a.ts";',
    'await import("../fuse/a.ts");',
    'let a: import("../fuse/a.ts").A;',
    'new Worker(new URL("../fuse/a.ts", import.meta.url));',
  ];
  for (const form of forms) assert.equal(lint("api/app.ts", form).length, 1, form);
});

Deno.test("room rule leaves tests, bench and tools free", () => {
  for (const path of ["tests/support/hosts.ts", "bench/main.ts", "tools/demo.ts", "api/app_test.ts"]) {
    const up = "../".repeat(path.split("/").length - 1);
    assert.deepEqual(lint(path, `import "${up}cli/serve.ts";\nimport "${up}fuse/mount.ts";`), [], path);
  }
});

Deno.test("room rule refuses a folder that it does not know", () => {
  assert.equal(lint("src/cloud/s3.ts", 'import "./other.ts";').length, 1);
  assert.equal(lint("src/volume/volume.ts", 'import "../cloud/s3.ts";').length, 1);
});

import assert from "node:assert/strict";
import { mountsAt, parseMountInfo } from "./mount_table.ts";

Deno.test("parseMountInfo reads optional fields, types and who mounted", () => {
  const text = [
    "22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw",
    "99 22 0:41 / /mnt/past ro,nosuid - fuse.varve varve ro,user_id=1000,group_id=1000,default_permissions",
    "",
  ].join("\n");
  assert.deepEqual(parseMountInfo(text), [
    { device: "254:0", path: "/", type: "ext4" },
    { device: "0:41", path: "/mnt/past", type: "fuse.varve", owner: 1000 },
  ]);
});

Deno.test("parseMountInfo undoes the kernel's escapes, and those alone", () => {
  const paths = {
    "/a\\040b": "/a b",
    "/a\\011b\\012c": "/a\tb\nc",
    "/a\\134040": "/a\\040",
    "/a\\043b": "/a#b",
    "/ünter/\u{1f5c4}": "/ünter/\u{1f5c4}",
    "/-": "/-",
  };
  for (const [written, path] of Object.entries(paths)) {
    const line = `99 22 0:41 / ${written} ro - fuse.varve varve ro,user_id=0`;
    assert.deepEqual(parseMountInfo(line), [{ device: "0:41", path, type: "fuse.varve", owner: 0 }], written);
  }
});

Deno.test("parseMountInfo takes no notice of lines of another form", () => {
  assert.deepEqual(parseMountInfo("\n1 2 3\n99 22 0:41 / /mnt ro fuse varve ro\n"), []);
});

Deno.test("mountsAt finds what is mounted now", async () => {
  assert.equal((await mountsAt("/proc")).at(-1)?.type, "proc");
  assert.deepEqual(await mountsAt("/proc/self"), []);
});

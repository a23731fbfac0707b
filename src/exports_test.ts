import assert from "node:assert/strict";
import { MemoryDevice } from "./base/memory_device.ts";
import { VarveError } from "./base/errors.ts";
import { VolumeExports } from "./exports.ts";
import type { ClientInfo } from "./nbd/mod.ts";
import type { Volume } from "./volume/volume.ts";

const CLIENT: ClientInfo = { peer: "unix", credentials: { pid: 42, uid: 1000, gid: 100 } };

/** A live device that gives numbers from 7 on. */
class Live extends MemoryDevice {
  readonly admitted: ClientInfo[] = [];
  readonly dismissed: number[] = [];
  readonly connections = { dismiss: (client: number) => this.dismissed.push(client) };

  admit(client: ClientInfo): number {
    return 6 + this.admitted.push(client);
  }
}

/** Two volumes; of `a` there is the moment 7, and `bad` names none. */
function fixture(): { exports: VolumeExports; live: Live; past: MemoryDevice; clone: MemoryDevice } {
  const live = new Live(1 << 20);
  const past = new MemoryDevice(1 << 20, { readOnly: true });
  const clone = new MemoryDevice(1 << 20);
  const volume = {
    sizeBytes: 1 << 20,
    live,
    view: (seq: number) => {
      assert.equal(seq, 7);
      return Promise.resolve(past);
    },
  } as unknown as Volume;
  const exports = new VolumeExports({
    names: () => ["a", "b"],
    find: (name) => name === "a" || name === "b" ? volume : undefined,
    resolve: (_name, at) =>
      at === "bad"
        ? Promise.reject(new VarveError("not-retained", "find bad: gone"))
        : Promise.resolve({ seq: 7, time: `<${at}>` }),
    marks: (name) => name === "a" ? [{ name: "x", seq: 7 }, { name: "y", seq: 8 }] : [],
    clones: {
      list: () => [{ name: "c", description: "clone of a" }],
      open: (name) =>
        Promise.resolve(name === "c" ? { device: clone, description: "c", close: () => {} } : undefined),
    },
  });
  return { exports, live, past, clone };
}

Deno.test("VolumeExports lists volumes and opens them live or as of a time", async () => {
  const { exports, live, past } = fixture();
  assert.deepEqual(exports.list().map(({ name }) => name), ["a", "b", "c"]);
  const now = await exports.open("a", CLIENT);
  assert.equal(now?.device, live);
  const then = await exports.open("a@mark:before@noon", CLIENT);
  assert.equal(then?.device, past);
  assert.ok(then.description.includes("<mark:before@noon>"), "the first @ ends the name");
  const another = await exports.open("a", CLIENT);
  assert.deepEqual([now.client, another?.client], [7, 8], "the volume gives the numbers");
  assert.deepEqual(live.admitted, [CLIENT, CLIENT]);
  await now.close();
  assert.deepEqual(live.dismissed, [7]);
  const since = "qemu:dirty-bitmap:since-mark:";
  assert.deepEqual(await now.maps?.list(), [`${since}x`, `${since}y`]);
  assert.deepEqual(await then.maps?.list(), [`${since}x`], "marks after the moment are left out");
  assert.equal(await exports.open("none", CLIENT), undefined);
  assert.equal(await exports.open("none@now", CLIENT), undefined);
  assert.equal(await exports.open("", CLIENT), undefined);
});

Deno.test("VolumeExports counts connections by volume, live and past, until they are closed", async () => {
  const { exports } = fixture();
  const opened = [
    await exports.open("a", CLIENT),
    await exports.open("a@now", CLIENT),
    await exports.open("b", CLIENT),
  ];
  assert.deepEqual([exports.connections("a"), exports.connections("b"), exports.connections("c")], [2, 1, 0]);
  await assert.rejects(exports.open("a@", CLIENT), { name: "VarveError", code: "invalid" });
  await assert.rejects(exports.open("a@bad", CLIENT), { name: "VarveError", code: "not-retained" });
  assert.equal(exports.connections("a"), 2, "what could not be opened is not counted");
  for (const each of opened) await each?.close();
  assert.deepEqual([exports.connections("a"), exports.connections("b")], [0, 0]);
});

Deno.test("VolumeExports opens clones by their names, as connections of their own", async () => {
  const { exports, clone } = fixture();
  const [one, other] = [await exports.open("c", CLIENT), await exports.open("c", CLIENT)];
  assert.equal(one?.device, clone);
  assert.notEqual(one.client, other?.client);
  assert.equal(await exports.open("c@now", CLIENT), undefined, "a clone has no past");
});

import fc from "fast-check";
import assert from "node:assert/strict";
import { VarveError } from "../base/errors.ts";
import { MemoryDevice } from "../base/memory_device.ts";
import { concat, enterDevice, errorIn, infoData, metaData, noise, RawClient } from "./_testing.ts";
import { option, request, runsIn, TestExports, u32, utf8 } from "./_testing.ts";
import { statusOf } from "./block_status.ts";
import type { ExportMap, ExportMaps, MapRun } from "./exports.ts";
import { Rep } from "./protocol.ts";
import { NbdServer } from "./server.ts";

const [READ, BLOCK_STATUS] = [0, 7] as const;
const REQ_ONE = 8;
const [EIO, EINVAL] = [5, 22] as const;
const [STRUCTURED, LIST_META, SET_META] = [8, 9, 10] as const;
const KIB = 1024;
const ALLOCATION = "base:allocation";
const SINCE = "qemu:dirty-bitmap:since-10:15 mark:a b";

/** Maps with these names; others can be opened when they begin with `qemu:dirty-bitmap:any`. */
class TestMaps implements ExportMaps {
  readonly opened: string[] = [];
  readonly #names: string[];
  readonly #map: ExportMap;

  constructor(names: string[], runs: ExportMap["runs"] = (_, length) => [{ length, flags: 1 }]) {
    this.#names = names;
    this.#map = { runs };
  }
  list(): string[] {
    return this.#names;
  }
  open(name: string): Promise<ExportMap | undefined> {
    this.opened.push(name);
    const known = this.#names.includes(name) || name.startsWith("qemu:dirty-bitmap:any");
    return Promise.resolve(known ? this.#map : undefined);
  }
}

async function greeted(maps?: ExportMaps) {
  const exports = new TestExports({ disk: new MemoryDevice(4096), other: new MemoryDevice(8192) }, maps);
  const { client, done } = RawClient.inMemory(new NbdServer({ exports }));
  await client.greet();
  const meta = async (kind: number, name: string, queries: string[]) => {
    await client.send(option(kind, metaData(name, queries)));
    const replies = await client.optionReplies();
    const last = replies.pop();
    const contexts = replies.map(({ type, data }) => {
      assert.equal(type, Rep.META_CONTEXT);
      return [new DataView(data.buffer).getUint32(0), new TextDecoder().decode(data.subarray(4))];
    });
    return { type: last?.type, contexts };
  };
  const leave = async () => {
    client.close();
    await done;
    assert.equal(exports.closed, exports.opened);
  };
  return { client, exports, meta, leave };
}

Deno.test("metadata contexts: need structured replies or extended headers", async () => {
  const { client, meta, leave } = await greeted();
  for (const kind of [LIST_META, SET_META]) {
    assert.deepEqual(await meta(kind, "disk", [ALLOCATION]), { type: Rep.ERR_INVALID, contexts: [] });
  }
  assert.equal(await client.ask(11), Rep.ACK);
  assert.deepEqual(await meta(SET_META, "disk", [ALLOCATION]), {
    type: Rep.ACK,
    contexts: [[1, ALLOCATION]],
  });
  await leave();
});

Deno.test("metadata contexts: LIST shows all, by name, by name space and by the beginning of a name", async () => {
  const maps = new TestMaps([SINCE, "qemu:dirty-bitmap:b", "qemu:allocation-depth", "x-varve:y"]);
  const { client, meta, leave } = await greeted(maps);
  await client.ask(STRUCTURED);
  const cases: [string[], string[]][] = [
    [[], [ALLOCATION, SINCE, "qemu:dirty-bitmap:b", "qemu:allocation-depth", "x-varve:y"]],
    [[ALLOCATION], [ALLOCATION]],
    [["base:"], [ALLOCATION]],
    [["qemu:"], [SINCE, "qemu:dirty-bitmap:b", "qemu:allocation-depth"]],
    [["qemu:dirty-bitmap:"], [SINCE, "qemu:dirty-bitmap:b"]],
    [["qemu:dirty-bitmap:b", "qemu:", "qemu:dirty-bitmap:b"], [
      "qemu:dirty-bitmap:b",
      SINCE,
      "qemu:allocation-depth",
    ]],
    [[SINCE], [SINCE]],
    [["qemu:dirty-bitmap:any 1"], ["qemu:dirty-bitmap:any 1"]],
    [["qemu:dirty", "base:other", "nothing", "x-foreign:", "x-foreign:y", ""], []],
  ];
  for (const [queries, names] of cases) {
    const contexts = names.map((name) => [0, name]);
    assert.deepEqual(await meta(LIST_META, "disk", queries), { type: Rep.ACK, contexts }, queries.join());
  }
  await leave();
});

Deno.test("metadata contexts: SET selects what is named, nothing for no query and for base:, each once", async () => {
  const maps = new TestMaps([SINCE, "qemu:dirty-bitmap:b"]);
  const { client, meta, leave } = await greeted(maps);
  await client.ask(STRUCTURED);
  const cases: [string[], string[]][] = [
    [[], []],
    [["base:"], []],
    [["nothing:", "base:nothing"], []],
    [[ALLOCATION, ALLOCATION], [ALLOCATION]],
    [["qemu:dirty-bitmap:", ALLOCATION, SINCE], [SINCE, "qemu:dirty-bitmap:b", ALLOCATION]],
    [["qemu:dirty-bitmap:any 10m ago"], ["qemu:dirty-bitmap:any 10m ago"]],
  ];
  for (const [queries, names] of cases) {
    const contexts = names.map((name, index) => [index + 1, name]);
    assert.deepEqual(await meta(SET_META, "disk", queries), { type: Rep.ACK, contexts }, queries.join());
  }
  await leave();
});

Deno.test("metadata contexts: a map is opened once for all options of a handshake", async () => {
  const maps = new TestMaps([]);
  const { client, exports, meta, leave } = await greeted(maps);
  await client.ask(STRUCTURED);
  const name = "qemu:dirty-bitmap:any 10m ago";
  await meta(LIST_META, "disk", [name]);
  await meta(SET_META, "disk", [name]);
  await client.ask(6, infoData("disk"));
  await meta(SET_META, "disk", [name]);
  await client.ask(7, infoData("disk"));
  assert.deepEqual([maps.opened, exports.opened], [[name], 1]);
  await leave();
});

Deno.test("metadata contexts: bad requests are refused and forget what was selected", async () => {
  const many = Array.from({ length: 20 }, (_, at) => `qemu:dirty-bitmap:${at}`);
  const { client, meta, leave } = await greeted(new TestMaps(many));
  await client.ask(STRUCTURED);
  const cases: [Uint8Array, number][] = [
    [metaData("nothing", [ALLOCATION]), Rep.ERR_UNKNOWN],
    [new Uint8Array(), Rep.ERR_INVALID],
    [concat(u32(4), "disk"), Rep.ERR_INVALID],
    [concat(u32(4), "disk", u32(1)), Rep.ERR_INVALID],
    [concat(u32(4), "disk", u32(1), u32(5), "base"), Rep.ERR_INVALID],
    [concat(u32(4), "disk", u32(0), u32(0)), Rep.ERR_INVALID],
    [concat(u32(4), "disk", u32(0xffff_ffff)), Rep.ERR_INVALID],
    [concat(u32(4), "disk", u32(1), u32(1), Uint8Array.of(0xff)), Rep.ERR_INVALID],
    [metaData("disk", ["a:\0"]), Rep.ERR_INVALID],
    [metaData("disk", [`a:${"x".repeat(4096)}`]), Rep.ERR_TOO_BIG],
    [metaData("disk", Array(65).fill("a:b")), Rep.ERR_TOO_BIG],
    [metaData("disk", many.slice(0, 17)), Rep.ERR_TOO_BIG],
    [metaData("disk", ["qemu:"]), Rep.ERR_TOO_BIG],
  ];
  for (const [data, type] of cases) {
    await meta(SET_META, "disk", [ALLOCATION]);
    assert.equal(await client.ask(SET_META, data), type);
  }
  assert.equal((await meta(SET_META, "disk", many.slice(0, 16))).contexts.length, 16);
  assert.equal((await meta(LIST_META, "disk", ["qemu:"])).contexts.length, 20);
  assert.equal(await client.ask(SET_META, metaData("disk", many.slice(0, 17))), Rep.ERR_TOO_BIG);
  await client.ask(7, infoData("disk"));
  await client.send(request({ type: BLOCK_STATUS, length: 1 }));
  assert.equal(errorIn(await client.chunk())?.error, EINVAL);
  await leave();
});

Deno.test("metadata contexts: what a map's opening throws is told, what is not the client's fault reported", async () => {
  const maps: ExportMaps = {
    list: () => [],
    open: (name) => Promise.reject(new VarveError(name.endsWith("x") ? "not-retained" : "io", `not ${name}`)),
  };
  const { client, meta, leave } = await greeted(maps);
  await client.ask(STRUCTURED);
  assert.equal((await meta(SET_META, "disk", ["qemu:x"])).type, Rep.ERR_UNKNOWN);
  await client.send(option(LIST_META, metaData("disk", ["qemu:y"])));
  assert.deepEqual(await client.optionReply(), {
    option: 9,
    type: Rep.ERR_UNKNOWN,
    data: utf8("not qemu:y"),
  });
  await leave();
});

Deno.test("metadata contexts: belong to one export, whatever others are looked at in between", async () => {
  const maps = new TestMaps([]);
  for (
    const [asked, allowed] of [[["disk"], true], [["other", "disk"], true], [["other"], false]] as const
  ) {
    const { client, exports, meta, leave } = await greeted(maps);
    await client.ask(STRUCTURED);
    await meta(SET_META, "disk", [ALLOCATION]);
    for (const name of asked) await client.ask(6, infoData(name));
    await client.ask(7, infoData(asked.at(-1) ?? ""));
    assert.equal(exports.opened - exports.closed, 1, "one export is open");
    await client.send(request({ type: BLOCK_STATUS, length: 4096 }));
    const chunk = await client.chunk();
    if (allowed) assert.deepEqual(runsIn(chunk), { context: 1, runs: [[4096, 3]] });
    else assert.equal(errorIn(chunk)?.error, EINVAL);
    await leave();
  }
});

Deno.test("metadata contexts: go with EXPORT_NAME as well", async () => {
  const { client, meta, leave } = await greeted();
  await client.ask(STRUCTURED);
  await meta(SET_META, "disk", [ALLOCATION]);
  await client.send(option(1, utf8("disk")));
  assert.deepEqual((await client.receive(10)).subarray(8), Uint8Array.of(0x0d, 0xed));
  await client.send(request({ type: BLOCK_STATUS, length: 4096 }));
  assert.deepEqual(runsIn(await client.chunk()).runs, [[4096, 3]]);
  await leave();
});

Deno.test("block status: tells holes and data of the range, one extent when asked for one", async () => {
  const device = new MemoryDevice(64 * KIB);
  device.write(8 * KIB, noise(4 * KIB));
  device.write(16 * KIB, noise(8 * KIB));
  const { ask, leave } = await enterDevice(device, { queries: [ALLOCATION] });
  const cases: [number, number, number, [number, number][]][] = [
    [0, 64 * KIB, 0, [[8 * KIB, 3], [4 * KIB, 0], [4 * KIB, 3], [8 * KIB, 0], [40 * KIB, 3]]],
    [9 * KIB, 5 * KIB, 0, [[3 * KIB, 0], [2 * KIB, 3]]],
    [9 * KIB, 5 * KIB, REQ_ONE, [[3 * KIB, 0]]],
    [8 * KIB + 1, 1, REQ_ONE, [[1, 0]]],
    [64 * KIB - 1, 1, 0, [[1, 3]]],
  ];
  for (const [offset, length, flags, runs] of cases) {
    const chunks = await ask({ type: BLOCK_STATUS, offset, length, flags, cookie: 5n });
    assert.equal(chunks.length, 1);
    assert.deepEqual(runsIn(chunks[0]), { context: 1, runs });
  }
  for (const [offset, length] of [[0, 64 * KIB + 1], [64 * KIB, 1], [0, 0], [7, 0]] as const) {
    const [chunk] = await ask({ type: BLOCK_STATUS, offset, length });
    assert.equal(errorIn(chunk)?.error, EINVAL);
  }
  await leave();
});

Deno.test("block status: a reply has at most 4096 extents of a context, and each context its chunk", async () => {
  const runs = (_offset: number, _length: number, max: number) =>
    Array.from({ length: max }, (_, at) => ({ length: 1, flags: at % 2 }));
  const device = new MemoryDevice(2 ** 32);
  const queries = ["qemu:dirty-bitmap:b", ALLOCATION];
  const maps = new TestMaps(["qemu:dirty-bitmap:b"], runs);
  const { ask, contexts, leave } = await enterDevice(device, { queries, maps });
  const chunks = await ask({ type: BLOCK_STATUS, length: 0xffff_ffff });
  assert.deepEqual(chunks.map(({ done }) => done), [false, true]);
  const found = chunks.map(runsIn);
  assert.deepEqual(found.map(({ context }) => context), queries.map((name) => contexts.get(name)));
  assert.equal(found[0]?.runs.length, 4096);
  assert.deepEqual(found[1]?.runs, [[0xffff_ffff, 3]]);
  await leave();
});

Deno.test("block status: a map that has to wait does not hold up what comes later", async () => {
  const answer = Promise.withResolvers<MapRun[]>();
  const maps = new TestMaps(["qemu:dirty-bitmap:b"], () => answer.promise);
  const queries = [ALLOCATION, "qemu:dirty-bitmap:b"];
  const { client, leave } = await enterDevice(new MemoryDevice(4096), { queries, maps });
  await client.send(
    request({ type: BLOCK_STATUS, cookie: 1n, length: 4096 }),
    request({ type: READ, cookie: 2n, length: 1 }),
  );
  assert.equal((await client.chunk()).cookie, 2n);
  answer.resolve([{ length: 1000, flags: 1 }, { length: 9000, flags: 0 }]);
  const chunks = await client.chunks();
  assert.deepEqual(chunks.map(({ cookie }) => cookie), [1n, 1n]);
  assert.deepEqual(runsIn(chunks[1]).runs, [[1000, 1], [3096, 0]]);
  await leave();
});

Deno.test("block status: a map that fails, at once or later, or tells nothing, is one error", async () => {
  const failures: ExportMap["runs"][] = [
    () => {
      throw new VarveError("damaged", "the map is bad");
    },
    () => Promise.reject(new VarveError("damaged", "the map is bad")),
    () => [],
    () => Promise.resolve([{ length: 0, flags: 1 }]),
  ];
  for (const runs of failures) {
    const problems: string[] = [];
    const { ask, leave } = await enterDevice(new MemoryDevice(4096), {
      queries: [ALLOCATION, "qemu:b", "qemu:c"],
      maps: new TestMaps(["qemu:b", "qemu:c"], runs),
      server: { onProblem: (error) => problems.push(error.code) },
    });
    const chunks = await ask({ type: BLOCK_STATUS, length: 4096 });
    assert.equal(chunks.length, 1);
    assert.equal(errorIn(chunks[0])?.error, EIO);
    assert.equal(problems.length, 1);
    await leave();
  }
});

Deno.test("block status: whatever a map says, the client is told at most its range, in order", () => {
  const run = fc.record({ length: fc.nat(100), flags: fc.nat(1) });
  fc.assert(
    fc.property(
      fc.array(run, { minLength: 1 }),
      fc.integer({ min: 1, max: 300 }),
      fc.nat(5),
      (runs, length, more) => {
        const max = more + 1;
        const context = { id: 1, name: "a:b", map: { runs: () => runs } };
        if (runs[0]?.length === 0) return;
        const [told = []] = statusOf([context], { offset: 0, length, max }) as MapRun[][];
        assert.ok(told.length >= 1 && told.length <= max);
        assert.ok(told.every((one, at) => one.length > 0 && one.flags === runs[at]?.flags));
        assert.ok(told.reduce((sum, one) => sum + one.length, 0) <= length);
      },
    ),
  );
});

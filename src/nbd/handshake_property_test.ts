import fc from "fast-check";
import assert from "node:assert/strict";
import { MemoryDevice } from "../base/memory_device.ts";
import {
  concat,
  infoData,
  maskingTls,
  metaData,
  option,
  RawClient,
  TestExports,
  TLS_HELLO,
  u16,
  u32,
  utf8,
} from "./_testing.ts";
import { Rep } from "./protocol.ts";
import { NbdServer } from "./server.ts";

const [EXPORT_NAME, ABORT, STARTTLS, GO] = [1, 2, 5, 7] as const;

const name = fc.constantFrom("disk", "past", "nothing", "", "di\0sk");
const query = fc.constantFrom("base:allocation", "base:", "qemu:", "qemu:dirty-bitmap:x", "y", "");
const data = fc.oneof(
  fc.constant(new Uint8Array()),
  name.map(utf8),
  fc.tuple(name, fc.array(fc.nat(5), { maxLength: 4 })).map(([one, kinds]) => infoData(one, kinds)),
  fc.tuple(name, fc.array(query, { maxLength: 4 })).map(([one, queries]) => metaData(one, queries)),
  fc.uint8Array({ maxLength: 30 }),
  fc.constant(new Uint8Array(70_000)),
  fc.constant(concat(u32(0xffff_ffff), u32(0xffff_ffff), u16(0xffff))),
);
const kind = fc.oneof({ weight: 9, arbitrary: fc.nat(12) }, { weight: 1, arbitrary: fc.nat(0xffff_ffff) });

Deno.test("handshake: any sequence of options is answered, each once, or ends the session where the protocol says so", async () => {
  const tlsMode = fc.constantFrom("off", "allow", "require");
  await fc.assert(
    fc.asyncProperty(tlsMode, fc.array(fc.tuple(kind, data), { maxLength: 20 }), async (mode, options) => {
      const problems: unknown[] = [];
      const exports = new TestExports({
        disk: new MemoryDevice(8192),
        past: new MemoryDevice(8192, { readOnly: true }),
      }, { list: () => ["qemu:dirty-bitmap:x"], open: () => Promise.resolve(undefined) });
      const server = new NbdServer({
        exports,
        ...(mode === "off" ? {} : { tls: maskingTls(mode === "require") }),
        onProblem: (error) => problems.push(error),
      });
      const connection = RawClient.inMemory(server);
      let { client } = connection;
      await client.greet();
      let form = "simple";
      let encrypted = false;
      for (const [one, content] of options) {
        await client.send(option(one, content));
        if (one === EXPORT_NAME) break;
        const replies = await client.optionReplies();
        const last = replies.at(-1)?.type ?? 0;
        assert.ok(last === Rep.ACK || replies.length === 1 || last >= 0x8000_0000);
        if (
          mode === "require" && !encrypted && one !== ABORT && one !== STARTTLS && content.length <= 65_536
        ) {
          assert.equal(last, Rep.ERR_TLS_REQD);
        } else assert.notEqual(last, Rep.ERR_TLS_REQD);
        if (last === Rep.ACK && (one === 9 || one === 10)) assert.notEqual(form, "simple");
        if (last === Rep.ACK && one === 8) form = "structured";
        if (last === Rep.ACK && one === 11) form = "extended";
        if (last === Rep.ERR_EXT_HEADER_REQD) assert.deepEqual([one, form], [8, "extended"]);
        if (one > 11 || one === 0 || one === 4) {
          assert.ok(last === Rep.ERR_UNSUP || last === Rep.ERR_TOO_BIG || last === Rep.ERR_TLS_REQD);
        }
        if (one === STARTTLS && last === Rep.ACK) {
          assert.ok(!encrypted && mode !== "off");
          await client.send(TLS_HELLO);
          client = client.masked();
          encrypted = true;
          form = "simple";
        }
        if (last === Rep.ACK && (one === ABORT || one === GO)) break;
      }
      client.endSending();
      await client.receiveAll();
      await connection.done;
      assert.deepEqual(problems, []);
      assert.equal(exports.opened, exports.closed);
    }),
    { numRuns: 300 },
  );
});

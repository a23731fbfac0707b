import assert from "node:assert/strict";
import fc from "fast-check";
import * as abi from "./abi.ts";
import { decodeRequest, listedBytes, ReplyBuffer } from "./codec.ts";
import type { Attributes } from "./filesystem.ts";

Deno.test("structs have the sizes that the kernel's header gives them", () => {
  const sizes = {
    IN_HEADER: 40,
    OUT_HEADER: 16,
    INIT_OUT: 64,
    ATTR: 88,
    ENTRY_OUT: 40,
    ATTR_OUT: 16,
    FORGET_IN: 8,
    BATCH_FORGET_IN: 8,
    FORGET_ONE: 16,
    OPEN_IN: 8,
    OPEN_OUT: 16,
    READ_IN: 40,
    RELEASE_IN: 24,
    GETXATTR_IN: 8,
    GETXATTR_OUT: 8,
    INTERRUPT_IN: 8,
    LSEEK_IN: 24,
    LSEEK_OUT: 8,
    STATFS_OUT: 80,
    DIRENT: 24,
  } as const;
  for (const [name, bytes] of Object.entries(sizes)) {
    assert.equal(abi[name as keyof typeof sizes].BYTES, bytes, name);
  }
});

/** A naive writer of C structs: a list of little-endian numbers with their widths. */
function pack(...fields: [value: bigint | number, bytes: number][]): number[] {
  return fields.flatMap(([value, bytes]) =>
    Array.from(
      { length: bytes },
      (_, index) => Number((BigInt.asUintN(64, BigInt(value)) >> BigInt(8 * index)) & 255n),
    )
  );
}

/** A naive reader of little-endian numbers. */
function unpack(bytes: Uint8Array, at: number, width: number): bigint {
  return bytes.slice(at, at + width).reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

function request(opcode: number, unique: bigint, node: number, body: number[]): Uint8Array {
  const header = pack([40 + body.length, 4], [opcode, 4], [unique, 8], [node, 8], [1, 4], [2, 4], [3, 4], [
    0,
    4,
  ]);
  return Uint8Array.from([...header, ...body]);
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u53 = fc.maxSafeNat();
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const name = fc.uint8Array({ minLength: 1, maxLength: 255, min: 1 });

Deno.test("decodeRequest reads what a naive writer packed", () => {
  fc.assert(fc.property(u64, u53, u53, u53, u32, name, (unique, node, handle, offset, number, bytes) => {
    const about = { unique, node };
    const size = Math.min(number, abi.MAX_READ_BYTES);
    const named = [...bytes, 0];
    const cases: [number, number[], Record<string, unknown>][] = [
      [abi.OPCODE.LOOKUP, named, { op: "lookup", name: bytes }],
      [abi.OPCODE.FORGET, pack([offset, 8]), { op: "forget", nodes: [{ node, count: offset }] }],
      [
        abi.OPCODE.BATCH_FORGET,
        pack([2, 4], [0, 4], [handle, 8], [1, 8], [offset, 8], [2, 8]),
        { op: "forget", nodes: [{ node: handle, count: 1 }, { node: offset, count: 2 }] },
      ],
      [abi.OPCODE.GETATTR, pack([0, 4], [0, 4], [handle, 8]), { op: "getattr" }],
      [abi.OPCODE.OPEN, pack([number, 4], [0, 4]), { op: "open", flags: number }],
      [
        abi.OPCODE.READ,
        pack([handle, 8], [offset, 8], [number, 4], [9, 4], [9, 8], [9, 4], [9, 4]),
        { op: "read", handle, offset, size },
      ],
      [
        abi.OPCODE.READDIRPLUS,
        pack([handle, 8], [offset, 8], [number, 4], [9, 4], [9, 8], [9, 4], [9, 4]),
        { op: "readdirplus", handle, offset, size },
      ],
      [abi.OPCODE.RELEASE, pack([handle, 8], [9, 4], [9, 4], [9, 8]), { op: "release", handle }],
      [
        abi.OPCODE.GETXATTR,
        [...pack([number, 4], [9, 4]), ...named],
        { op: "getxattr", size: number, name: bytes },
      ],
      [
        abi.OPCODE.LSEEK,
        pack([handle, 8], [offset, 8], [number, 4], [9, 4]),
        { op: "lseek", handle, offset, whence: number },
      ],
      [abi.OPCODE.INTERRUPT, pack([unique, 8]), { op: "interrupt", target: unique }],
      [
        abi.OPCODE.INIT,
        pack([7, 4], [38, 4], [number, 4], [number, 4], [0, 8]),
        { op: "init", init: { major: 7, minor: 38, maxReadahead: number, flags: number } },
      ],
      [abi.OPCODE.MKDIR, [...pack([0, 8]), ...named], { op: "change" }],
      [4000, [], { op: "other", opcode: 4000 }],
    ];
    for (const [opcode, body, expected] of cases) {
      const decoded = decodeRequest(request(opcode, unique, node, body));
      assert.deepEqual({ ...decoded }, { ...expected, ...about });
    }
  }));
});

Deno.test("decodeRequest does not keep the buffer that is used again", () => {
  const bytes = request(abi.OPCODE.LOOKUP, 2n, 1, [0x61, 0x62, 0]);
  const decoded = decodeRequest(bytes);
  bytes.fill(0xff);
  assert.ok(decoded.op === "lookup");
  assert.deepEqual([...decoded.name], [0x61, 0x62]);
});

Deno.test("decodeRequest refuses a request that is cut short", () => {
  const whole = request(abi.OPCODE.GETXATTR, 2n, 1, [...pack([9, 4], [0, 4]), 0x61, 0]);
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => decodeRequest(whole.subarray(0, length)), RangeError, `${length} bytes`);
  }
});

const attributes: fc.Arbitrary<Attributes> = fc.record({
  inode: u64,
  type: fc.constantFrom("file", "directory", "symlink", "fifo", "socket", "block", "character"),
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: u32,
  gid: u32,
  links: u32,
  sizeBytes: u53,
  blocks512: u53,
  rdev: u32,
  accessedNs: fc.bigInt({ min: -(1n << 62n), max: 1n << 62n }),
  modifiedNs: fc.bigInt({ min: -(1n << 62n), max: 1n << 62n }),
  changedNs: fc.bigInt({ min: -(1n << 62n), max: 1n << 62n }),
});

function packTimes(...times: bigint[]): number[] {
  const seconds = times.map((ns) => ns / 1_000_000_000n - (ns < 0n && ns % 1_000_000_000n !== 0n ? 1n : 0n));
  return [
    ...seconds.flatMap((second) => pack([second, 8])),
    ...times.flatMap((ns, index) => pack([ns - (seconds[index] ?? 0n) * 1_000_000_000n, 4])),
  ];
}

function packAttributes(value: Attributes): number[] {
  const type =
    { fifo: 1, character: 2, directory: 4, block: 6, file: 8, symlink: 10, socket: 12 }[value.type];
  return [
    ...pack([value.inode, 8], [value.sizeBytes, 8], [value.blocks512, 8]),
    ...packTimes(value.accessedNs, value.modifiedNs, value.changedNs),
    ...pack([type * 4096 + value.mode, 4], [value.links, 4], [value.uid, 4], [value.gid, 4], [value.rdev, 4]),
    ...pack([4096, 4], [0, 4]),
  ];
}

Deno.test("entries and attributes are encoded as a naive writer packs them", () => {
  const reply = new ReplyBuffer();
  fc.assert(fc.property(u64, u53, u32, attributes, (unique, node, seconds, value) => {
    reply.body.fill(0xee, 0, 200);
    const entry = reply.putEntry({ node, nameSeconds: seconds, attributeSeconds: 7, attributes: value });
    assert.deepEqual(
      [...reply.finish(unique, entry)],
      [
        ...pack([16 + 128, 4], [0, 4], [unique, 8]),
        ...pack([node, 8], [0, 8], [seconds, 8], [7, 8], [0, 8]),
        ...packAttributes(value),
      ],
    );
    const attr = reply.putAttributes(value, seconds);
    assert.deepEqual(
      [...reply.finish(unique, attr)],
      [...pack([16 + 104, 4], [0, 4], [unique, 8], [seconds, 8], [0, 8]), ...packAttributes(value)],
    );
  }));
});

Deno.test("an error is a header with a negated number", () => {
  assert.deepEqual([...new ReplyBuffer().finishError(5n, 30)], pack([16, 4], [-30, 4], [5, 8]));
});

Deno.test("a listing is read back by a naive reader, whatever the names", () => {
  const reply = new ReplyBuffer();
  const listing = fc.array(
    fc.record({ name, inode: u64, type: fc.constantFrom("file", "directory", undefined) }),
  );
  fc.assert(fc.property(listing, (names) => {
    reply.body.fill(0xee, 0, 100_000);
    let length = 0;
    names.forEach((listed, index) => {
      const bytes = reply.putListed({ ...listed, next: index + 1 }, length);
      assert.equal(bytes, listedBytes(listed.name.length, false));
      length += bytes;
    });
    let at = 0;
    names.forEach((listed, index) => {
      assert.equal(unpack(reply.body, at, 8), listed.inode);
      assert.equal(unpack(reply.body, at + 8, 8), BigInt(index + 1));
      const nameLength = Number(unpack(reply.body, at + 16, 4));
      assert.equal(
        unpack(reply.body, at + 20, 4),
        { file: 8n, directory: 4n, none: 0n }[listed.type ?? "none"],
      );
      assert.deepEqual([...reply.body.slice(at + 24, at + 24 + nameLength)], [...listed.name]);
      at += Math.ceil((24 + nameLength) / 8) * 8;
    });
    assert.equal(at, length);
  }));
});

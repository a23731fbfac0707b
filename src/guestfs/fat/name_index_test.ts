import { equal, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { CaseFolding } from "./name.ts";
import { type IndexedName, NameIndex } from "./name_index.ts";

function* numbered(count: number): Generator<IndexedName> {
  for (let inode = 0; inode < count; inode++) {
    yield { name: `Name ${inode}`, alias: inode % 2 === 0 ? `ALIAS~${inode}` : undefined, inode };
  }
}

for (const count of [10, 65_536, 65_537, 100_000]) {
  Deno.test(`fat name index: finds each of ${count} names`, () => {
    const index = new NameIndex(CaseFolding.common);
    const last = count - 1 - count % 2;
    equal(index.find(1, `Name ${count - 1}`, () => numbered(count)), count - 1);
    equal(index.find(1, `name ${count - 1}`, () => numbered(count)), count - 1);
    equal(index.find(1, "alias~0", () => numbered(count)), 0);
    equal(index.find(1, `ALIAS~${last}`, () => numbered(count)), last % 2 === 0 ? last : undefined);
    equal(index.find(1, `Name ${count}`, () => numbered(count)), undefined);
  });
}

Deno.test("fat name index: a directory is gone through once while its names have room", () => {
  const index = new NameIndex(CaseFolding.common);
  let times = 0;
  const names = () => {
    times++;
    return numbered(1000);
  };
  for (let inode = 0; inode < 1000; inode++) equal(index.find(5, `NAME ${inode}`, names), inode);
  equal(times, 1);
});

Deno.test("fat name index: what failed to be read is tried again, what is damaged is not", () => {
  for (const [code, times] of [["io", 2], ["damaged", 1]] as const) {
    const index = new NameIndex(CaseFolding.common);
    let tries = 0;
    const names = function* () {
      tries++;
      yield { name: "before", alias: undefined, inode: 7 };
      throw new VarveError(code, "reading: it failed");
    };
    equal(index.find(1, "BEFORE", names), 7);
    throws(() => index.find(1, "behind", names), /it failed/);
    equal(tries, times);
  }
});

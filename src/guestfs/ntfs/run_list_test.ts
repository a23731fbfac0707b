import { deepEqual, equal, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { decodeRunList, findRun } from "./run_list.ts";

const decode = (hex: string, endVcn: number, firstVcn = 0) =>
  decodeRunList(Uint8Array.fromHex(hex.replaceAll(" ", "")), { firstVcn, endVcn, clusterCount: 1000 });

Deno.test("run list: distances forward and back, holes, and numbers of several bytes", () => {
  deepEqual(decode("11 05 64  11 03 9c  01 02  21 01 2c01  00", 11), [
    { vcn: 0, lcn: 100, count: 5 },
    { vcn: 5, lcn: 0, count: 3 },
    { vcn: 8, lcn: undefined, count: 2 },
    { vcn: 10, lcn: 300, count: 1 },
  ]);
  deepEqual(decode("32 0102 010000 00", 513 + 7, 7), [{ vcn: 7, lcn: 1, count: 513 }]);
  deepEqual(decode("02 0001 00", 256), [{ vcn: 0, lcn: undefined, count: 256 }]);
  deepEqual(decode("00", 0), []);
});

Deno.test("run list: the run of each cluster is found", () => {
  const runs = decode("11 05 64  11 03 9c  01 02  21 01 2c01  00", 11);
  const naive = (vcn: number) => runs.find((run) => vcn >= run.vcn && vcn < run.vcn + run.count);
  for (let vcn = -1; vcn < 13; vcn++) equal(findRun(runs, vcn), naive(vcn));
  equal(findRun([], 0), undefined);
});

const DAMAGES: readonly [what: string, hex: string, endVcn: number][] = [
  ["without an end", "11 05 64", 5],
  ["cut within a number", "21 05 64", 5],
  ["shorter than its range", "11 05 64 00", 6],
  ["longer than its range", "11 05 64 00", 4],
  ["before the first cluster", "11 05 ff 00", 5],
  ["behind the last cluster", "21 05 e403 00", 5],
  ["of a negative count", "11 ff 64 00", 5],
  ["of no clusters", "11 00 64 00", 0],
  ["of a number without bytes", "10 64 00", 0],
  ["of a number of nine bytes", "19 000000000000000000 64 00", 0],
  ["of a number beyond 2^53", "18 ffffffffffffff7f 64 00", 5],
];

for (const [what, hex, endVcn] of DAMAGES) {
  Deno.test(`run list: one ${what} is damage`, () => {
    throws(() => decode(hex, endVcn), (thrown) => thrown instanceof VarveError && thrown.code === "damaged");
  });
}

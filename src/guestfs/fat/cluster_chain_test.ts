import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { VarveError } from "../../base/errors.ts";
import { MemoryDevice } from "../_test_support.ts";
import { ClusterChain } from "./cluster_chain.ts";
import { FatTable } from "./fat_table.ts";
import { MetadataSource } from "./metadata_source.ts";
import { random } from "./testing.ts";

const END = 0x0fffffff;

/** A table that counts the steps along it. */
class CountingTable extends FatTable {
  steps = 0;

  override next(cluster: number): number {
    this.steps++;
    return super.next(cluster);
  }
}

/** A table of FAT32 in which the clusters of a chain follow each other; what follows the last is given. */
function tableOf(chain: readonly number[], clusterCount: number, afterLast = END): CountingTable {
  const entries = new Uint32Array(clusterCount + 2);
  for (const [index, cluster] of chain.entries()) entries[cluster] = chain[index + 1] ?? afterLast;
  const source = new MetadataSource(new MemoryDevice(new Uint8Array(entries.buffer)));
  return new CountingTable(source, { offset: 0, width: 28, clusterCount });
}

/** Clusters from 2 on in another order: short runs that lie here and there. */
function scattered(count: number, seed: number, longest: number): number[] {
  const next = random(seed);
  const runs: number[][] = [];
  for (let cluster = 2; cluster < count + 2;) {
    const length = Math.min(1 + next(longest), count + 2 - cluster);
    runs.push(Array.from({ length }, (_, index) => cluster + index));
    cluster += length;
  }
  for (let at = runs.length - 1; at > 0; at--) {
    const other = next(at + 1);
    [runs[at], runs[other]] = [runs[other] ?? [], runs[at] ?? []];
  }
  return runs.flat();
}

const damaged = (text: string) => (thrown: unknown) =>
  thrown instanceof VarveError && thrown.code === "damaged" && thrown.message.includes(text);

for (const [count, longest] of [[1, 1], [1000, 1], [1000, 9], [100_000, 1], [100_000, 3]] as const) {
  Deno.test(`fat chain: ${count} clusters in runs of up to ${longest} are found in any order`, () => {
    const clusters = scattered(count, 7, longest);
    const chain = new ClusterChain(tableOf(clusters, count), clusters[0] ?? 0, count);
    const next = random(11);
    for (let round = 0; round < 2000; round++) {
      const most = 1 + next(6);
      const index = round % 3 === 0 ? round % count : next(count);
      ok(chain.extend(index + most) >= Math.min(count, index + most));
      const run = chain.find(index, most);
      equal(run.index, index);
      ok(run.count >= 1 && run.count <= most);
      for (let at = 0; at < run.count; at++) equal(run.cluster + at, clusters[index + at]);
      // A run ends only where the next cluster lies elsewhere, or where nobody asked for more.
      if (run.count < most) ok(clusters[index + run.count] !== run.cluster + run.count);
    }
    ok(chain.weightBytes < 2 * 1024 * 1024);
  });
}

Deno.test("fat chain: what is not asked for is not walked over", () => {
  const clusters = Array.from({ length: 50_000 }, (_, index) => index + 2);
  const chain = new ClusterChain(tableOf(clusters, 50_000), 2, 50_000);
  equal(chain.extend(10), 10);
  deepEqual(chain.find(3, 100), { index: 3, cluster: 5, count: 7 });
});

Deno.test("fat chain: what was walked over once is found again in a few steps, however scattered it lies", () => {
  const clusters = scattered(200_000, 3, 1);
  const table = tableOf(clusters, 200_000);
  const chain = new ClusterChain(table, clusters[0] ?? 0, 200_000);
  chain.extend(200_000);
  ok(table.steps <= 200_001);
  table.steps = 0;
  for (let part = 0; part < 10; part++) {
    const next = random(part);
    table.steps = 0;
    for (let round = 0; round < 100; round++) chain.find(part * 20_000 + next(20_000), 1);
    ok(table.steps < 100 * 32, `${table.steps} steps in part ${part}`);
  }
  table.steps = 0;
  for (let index = 100_000; index < 101_000; index++) chain.find(index, 1);
  ok(table.steps < 2000, `${table.steps} steps in order`);
});

Deno.test("fat chain: ends where it ends", () => {
  const chain = new ClusterChain(tableOf([5, 6, 9], 20), 5, 10);
  equal(chain.extend(10), 3);
});

for (const back of [5, 6, 9, 12]) {
  Deno.test(`fat chain: one that comes back to cluster ${back} is damaged before it gives a cluster twice`, () => {
    const chain = new ClusterChain(tableOf([5, 6, 9, 12], 20, back), 5, 10);
    equal(chain.extend(4), 4);
    throws(() => chain.extend(5), damaged(`comes back to cluster ${back}`));
    throws(() => chain.extend(5), damaged(`comes back to cluster ${back}`));
    equal(chain.known, 4);
  });
}

Deno.test("fat chain: free, bad and missing clusters are damaged", () => {
  const after = (last: number) => () => new ClusterChain(tableOf([5, 6], 20, last), 5, 10).extend(10);
  throws(after(0), damaged("marked free"));
  throws(after(0x0ffffff7), damaged("marked bad"));
  throws(after(1), damaged("cluster 1"));
  throws(after(22), damaged("cluster 22"));
});

Deno.test("fat chain: the upper bits of an entry of FAT32 mean nothing", () => {
  equal(new ClusterChain(tableOf([5, 6, 7], 20, 0xafff_fff8), 5, 10).extend(10), 3);
});

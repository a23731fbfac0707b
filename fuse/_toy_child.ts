/**
 * A process that serves toys on the folder given, until it is killed.
 *
 * @module
 */
import { mountTree } from "./mod.ts";
import { ToyHistory, wholeDisk } from "./_testing.ts";

const history = new ToyHistory({
  v: { moments: { 5: { time: "2026-11-22T10:15:00.000000Z", disk: wholeDisk({}) } } },
});
const described = await history.describe("v");

await mountTree({
  path: Deno.args[0] ?? "",
  workerUrl: new URL("./_toy_worker.ts", import.meta.url),
  engine: {
    listVolumes: () => [described],
    getVolume: () => described,
    listPoints: async (volume) => ({ points: await history.listPoints(volume) }),
    listFileVersions: (volume, path) => history.versions(volume, path),
    listDeletedFiles: (volume, at, path) => history.deleted(volume, Number(at.slice(4)), path),
    resolve: (volume, expression) => history.resolve(volume, expression),
  },
  locate: () => Promise.resolve({ directory: "toy", sizeBytes: 1024 ** 2 }),
});
await Deno.stdout.write(new TextEncoder().encode("ready\n"));

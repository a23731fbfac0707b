/**
 * A process that serves toys on the folder given, until SIGTERM. With `--allow-other` all users may look.
 *
 * @module
 */
import { mountTree } from "./mod.ts";
import { ToyHistory, wholeDisk } from "./_testing.ts";

const [path = "", ...flags] = Deno.args;
const history = new ToyHistory({
  v: { moments: { 5: { time: "2026-11-22T10:15:00.000000Z", disk: wholeDisk({}) } } },
});
const described = await history.describe("v");
const tell = (text: string) => Deno.stdout.write(new TextEncoder().encode(`${text}\n`));

try {
  const tree = await mountTree({
    path,
    allowOther: flags.includes("--allow-other"),
    graceMs: 500,
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
    onEnded: (error) => tell(`ended: ${error?.message ?? "unmounted"}`),
  });
  const stop = async () => {
    try {
      await tree.unmount();
    } catch (thrown) {
      Deno.exitCode = 1;
      await tell(`${thrown}`);
    }
    // It must end by itself now: nothing of the tree may keep it.
    Deno.removeSignalListener("SIGTERM", stop);
  };
  Deno.addSignalListener("SIGTERM", stop);
  await tell("ready");
} catch (thrown) {
  const { code, message, hint } = thrown as { code?: string; message?: string; hint?: string };
  await tell(`${code}: ${message} (${hint})`);
}

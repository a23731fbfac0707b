/**
 * Mounts toy volumes for tests, served by the test's own thread; commands run in other processes.
 *
 * @module
 */
import { closeDevice, Device, openDevice, wakeDevice } from "./device.ts";
import { detach, mount, prepareMountPoint, removeMountPoint } from "./mount.ts";
import { Session } from "./session.ts";
import { ToyHistory, type ToyVolumes } from "./_testing.ts";
import { makeTree, type TreeOptions } from "./tree.ts";

/** A tree mounted for a test. */
export interface MountedToys extends AsyncDisposable {
  /** Where. */
  readonly path: string;
  /** What is served. */
  readonly history: ToyHistory;
  /** Who serves it. */
  readonly session: Session;
  /** Resolves when the session has ended. */
  readonly ended: Promise<void>;
  /** Runs a script of the shell in the mount point; answers its output, both streams, without the last newline. */
  sh(script: string): Promise<string>;
}

/** Mounts toy volumes on a temporary folder. */
export async function mountToys(
  volumes: ToyVolumes,
  options: Partial<TreeOptions> = {},
): Promise<MountedToys> {
  const parent = await Deno.makeTempDir({ prefix: "varve-fuse-" });
  await Deno.chmod(parent, 0o755);
  const point = await prepareMountPoint(`${parent}/mnt`);
  const handles = openDevice();
  mount(handles.device, point, { allowOther: true });
  const history = new ToyHistory(volumes);
  const session = new Session(
    new Device(handles),
    makeTree(history, options),
  );
  const ended = session.run();
  return {
    path: point.path,
    history,
    session,
    ended,
    sh: (script) => shell(script, point.path),
    async [Symbol.asyncDispose]() {
      await detach(point.path);
      session.stop();
      wakeDevice(handles);
      await ended;
      closeDevice(handles);
      await removeMountPoint(point);
      await Deno.remove(parent);
    },
  };
}

/** Runs a script of the shell in a folder. */
export async function shell(script: string, cwd: string): Promise<string> {
  const { stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", `cd '${cwd}' || exit; exec 2>&1; ${script}`],
    env: { LC_ALL: "C" },
  }).output();
  return new TextDecoder().decode(new Uint8Array([...stdout, ...stderr])).replace(/\n$/, "");
}

/**
 * Loop devices, kernel mounts and `nbdfuse`, each gone when it is disposed of.
 *
 * @module
 */
import { ENVIRONMENT, exists, run, until } from "./run.ts";

/** Something that lies at a path until it is disposed of. */
export interface Placed extends AsyncDisposable {
  /** Where. */
  readonly path: string;
}

/** A loop device on a file. */
export async function loopDevice(file: string): Promise<Placed> {
  const path = (await run("losetup", "--find", "--show", file)).trim();
  return {
    path,
    async [Symbol.asyncDispose]() {
      await run("losetup", "--detach", path);
    },
  };
}

/** The kernel's mount of a device on a new folder, for reading and writing. */
export async function kernelMount(device: string, path: string): Promise<Placed> {
  await Deno.mkdir(path);
  await run("mount", device, path);
  return {
    path,
    async [Symbol.asyncDispose]() {
      // The lazy one is for a test that failed with something still open inside.
      await run("umount", path).catch(() => run("umount", "--lazy", path));
    },
  };
}

/** `nbdfuse`: an export as a file in a new folder. */
export async function nbdAsFile(uri: string, folder: string): Promise<Placed> {
  await Deno.mkdir(folder);
  const path = `${folder}/disk`;
  const child = new Deno.Command("nbdfuse", { args: [path, uri], env: ENVIRONMENT, stdin: "null" }).spawn();
  let ended = false;
  const status = child.status.then((found) => {
    ended = true;
    return found;
  });
  const dispose = async () => {
    if (!ended) await run("fusermount3", "-u", folder).catch(() => run("fusermount3", "-uz", folder));
    await status;
  };
  try {
    await until("nbdfuse shows its file", () => {
      if (ended) throw new Error(`nbdfuse ${uri}: it ended at once`);
      return exists(path);
    });
  } catch (thrown) {
    await dispose();
    throw thrown;
  }
  return { path, [Symbol.asyncDispose]: dispose };
}

/** A sparse file of a size. */
export async function sparseFile(path: string, sizeBytes: number): Promise<void> {
  using file = await Deno.create(path);
  await file.truncate(sizeBytes);
}

/** The peer of the tests: images made by mkntfs, filled and shown by the ntfs-3g driver. */
import { setTimeout as delay } from "node:timers/promises";
import { run } from "../_test_support.ts";

/** Makes an empty volume in a new image of `mebibytes`. */
export async function makeNtfs(image: string, mebibytes: number, ...options: string[]): Promise<void> {
  await run("truncate", "-s", `${mebibytes}M`, image);
  await run("mkntfs", "-F", "-Q", "-q", ...options, image);
}

/** An image that ntfs-3g shows until disposed; then everything is in the image, since the driver has ended. */
export class PeerMount implements AsyncDisposable {
  readonly path: string;
  readonly #driver: Deno.ChildProcess;

  private constructor(path: string, driver: Deno.ChildProcess) {
    this.path = path;
    this.#driver = driver;
  }

  /** Mounts an image at a folder beside it. */
  static async open(image: string, options: string): Promise<PeerMount> {
    const path = `${image}.mnt`;
    await Deno.mkdir(path, { recursive: true });
    const before = Deno.statSync(path).dev;
    const driver = new Deno.Command("ntfs-3g", {
      args: ["-o", `no_detach,${options}`, image, path],
      env: { LC_ALL: "C.UTF-8" },
      stdout: "null",
      stderr: "null",
    }).spawn();
    let ended = false;
    const status = driver.status.finally(() => ended = true);
    while (!ended && Deno.statSync(path).dev === before) await delay(5);
    if (ended) throw new Error(`ntfs-3g ${options} ${image}: ended with ${(await status).code}`);
    return new PeerMount(path, driver);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("umount", this.path);
    await this.#driver.status;
  }
}

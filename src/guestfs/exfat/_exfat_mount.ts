/** What the tests of exFAT share: images that mkfs.exfat makes and the FUSE driver fills and reads back. */
import { setTimeout as delay } from "node:timers/promises";
import { run } from "../_test_support.ts";

/** Options of a mount. */
export interface ExfatMountOptions {
  /** Options of the driver beside the usual ones. */
  readonly options?: string;
  /** The driver's time zone in the form of POSIX; UTC when absent. */
  readonly zone?: string;
}

const WAIT_MS = 20;
const WAITS_MAX = 500;

/** Makes an empty exFAT file system of a size such as `64M`. */
export async function makeExfat(image: string, size: string, options: readonly string[] = []): Promise<void> {
  await run("truncate", "-s", size, image);
  await run("mkfs.exfat", "-L", "Väl😀", ...options, image);
}

/** Fails when fsck.exfat finds anything to complain about. */
export async function checkExfat(image: string): Promise<void> {
  await run("fsck.exfat", "-n", image);
}

/** An image on a loop device, mounted by the FUSE driver until disposed. */
export class ExfatMount implements AsyncDisposable {
  readonly path: string;
  readonly #loop: string;
  readonly #driver: Deno.ChildProcess;

  private constructor(path: string, loop: string, driver: Deno.ChildProcess) {
    this.path = path;
    this.#loop = loop;
    this.#driver = driver;
  }

  /** Attaches and mounts an image; a folder of the same name with `.mnt` is made for it. */
  static async open(image: string, { options, zone }: ExfatMountOptions = {}): Promise<ExfatMount> {
    const path = `${image}.mnt`;
    await Deno.mkdir(path, { recursive: true });
    const loop = (await run("losetup", "-f", "--show", image)).trim();
    // In the foreground, so that it can be stopped in the midst of its work; it tells about every call then.
    const driver = new Deno.Command("mount.exfat-fuse", {
      args: ["-d", "-o", ["umask=022", ...(options === undefined ? [] : [options])].join(","), loop, path],
      env: { TZ: zone ?? "UTC" },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const mount = new ExfatMount(path, loop, driver);
    for (let waits = 0; !(await isMounted(path)); waits++) {
      if (waits < WAITS_MAX) await delay(WAIT_MS);
      else {
        driver.kill();
        await mount.#detach();
        throw new Error(`mounting ${image}: the driver does not answer`);
      }
    }
    return mount;
  }

  /** Copies what lies on the device at one moment, between two writes of the driver. */
  async cut(target: string): Promise<void> {
    this.#driver.kill("SIGSTOP");
    try {
      await run("dd", `if=${this.#loop}`, `of=${target}`, "bs=1M", "conv=sparse", "status=none");
    } finally {
      this.#driver.kill("SIGCONT");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("umount", this.path);
    await this.#detach();
  }

  async #detach(): Promise<void> {
    await this.#driver.status;
    await run("losetup", "-d", this.#loop);
  }
}

async function isMounted(path: string): Promise<boolean> {
  return (await Deno.readTextFile("/proc/self/mountinfo")).split("\n").some((line) =>
    line.includes(` ${path} `)
  );
}

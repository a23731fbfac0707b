/**
 * Runs the tests' peers: real programs, as a user would.
 *
 * @module
 */

/** Where Debian keeps mkfs and losetup, which an ordinary user's PATH leaves out. */
const SYSTEM_PATH = `${Deno.env.get("PATH") ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`;

/** How much of what a failed program said is told, of each kind, in characters. */
const SAID_MAX = 2000;

/** What a program left behind. */
export interface Ran {
  /** Exit code. */
  code: number;
  /** What it printed. */
  stdout: string;
  /** What it complained. */
  stderr: string;
}

/** Environment of every program: the same language on every machine, and system programs within reach. */
export const ENVIRONMENT = { PATH: SYSTEM_PATH, LC_ALL: "C.UTF-8", NO_COLOR: "1" };

/** Runs a program to its end, whatever comes out. Throws an `Error` when it is not installed. */
export async function attempt(command: string, ...args: string[]): Promise<Ran> {
  try {
    const child = new Deno.Command(command, { args, env: ENVIRONMENT, stdin: "null" });
    const { code, stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  } catch (thrown) {
    if (!(thrown instanceof Deno.errors.NotFound)) throw thrown;
    throw new Error(`Running ${command}: it is not installed; deno task test installs what the tests need`);
  }
}

/** Runs a program and returns what it printed; throws an `Error` with the end of what it said when it fails. */
export async function run(command: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await attempt(command, ...args);
  if (code !== 0) {
    const said = `${stdout.slice(-SAID_MAX)}${stderr.slice(-SAID_MAX)}`;
    throw new Error(`${command} ${args.join(" ")}: exit code ${code}\n${said}`);
  }
  return stdout;
}

/** Waits until `holds` is true, looking again every 20 ms; throws an `Error` that names `what` after `seconds`. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  seconds = 30,
): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  while (!await holds()) {
    if (performance.now() > deadline) throw new Error(`Waiting until ${what}: not so after ${seconds} s`);
    await pause(20);
  }
}

/** Resolves after so many milliseconds. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Whether there is something at a path, be it a dangling link. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (thrown) {
    if (thrown instanceof Deno.errors.NotFound) return false;
    throw thrown;
  }
}

/**
 * An nbdkit server for tests and benches.
 *
 * @module
 */

/**
 * Runs `body` with the path of the socket of an nbdkit server and its process number; `args` name filters, the plugin and its options.
 *
 * The file that says its process number is what to wait for: nbdkit writes it when it accepts connections, while the
 * socket's file is there between its `bind` and its `listen` too, when connecting is refused.
 */
export async function withNbdkit(
  args: string[],
  body: (socketPath: string, pid: number) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "varve-nbdkit-" });
  const socketPath = `${folder}/nbd.sock`;
  const readyPath = `${folder}/nbdkit.pid`;
  const server = new Deno.Command("nbdkit", {
    args: ["--foreground", "--pidfile", readyPath, "--unix", socketPath, ...args],
    stdin: "null",
    stderr: "null",
  }).spawn();
  let exit: Deno.CommandStatus | undefined;
  const exited = server.status.then((status) => exit = status);
  try {
    while (!await Deno.stat(readyPath).then(() => true, () => false)) {
      if (exit !== undefined) throw new Error(`nbdkit ${args.join(" ")}: exit code ${exit.code}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await body(socketPath, server.pid);
  } finally {
    if (exit === undefined) server.kill();
    await exited;
    await Deno.remove(folder, { recursive: true });
  }
}

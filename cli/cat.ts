/**
 * `varve cat`
 *
 * @module
 */
import type { Command } from "commander";
import { clientCommand, type CommonOptions, volumePath, withClient } from "./command.ts";
import { rooted } from "./ls.ts";
import type { Terminal } from "./terminal.ts";

/** Adds the command. */
export function addCat(program: Command, terminal: Terminal): void {
  clientCommand(program, "cat <volume> <path>", {
    summary: "Write a file of the past to standard output",
    example: "cat db /etc/fstab --at mark:before-upgrade > fstab",
  })
    .requiredOption("--at <time>", "the moment")
    .action((volume: string, path: string, options: CommonOptions & { at: string }) =>
      withClient(terminal, options, async (client) => {
        const query = { at: options.at, path: rooted(path) };
        await terminal.copyOut(await client.download(volumePath(volume, "files", "content"), query));
      })
    );
}

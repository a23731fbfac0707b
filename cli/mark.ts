/**
 * `varve mark`
 *
 * @module
 */
import type { Command } from "commander";
import type { MarkInfo } from "../src/engine.ts";
import { clientCommand, type CommonOptions, print, volumePath, withClient } from "./command.ts";
import type { Terminal } from "./terminal.ts";

/** Adds the command. */
export function addMark(program: Command, terminal: Terminal): void {
  clientCommand(program, "mark <volume> <name>", {
    summary: "Name the present moment",
    example: 'mark db before-upgrade --pin --note "version 4 to 5"',
  })
    .option("--pin", "retention never drops it")
    .option("--note <text>", "a note for people")
    .action((volume: string, name: string, options: CommonOptions & { pin?: true; note?: string }) =>
      withClient(terminal, options, async (client) => {
        const body = { name, pinned: options.pin, note: options.note };
        const mark = await client.request<MarkInfo>("POST", volumePath(volume, "marks"), { body });
        print(
          terminal,
          options,
          mark,
          () =>
            `Marked ${volume} as ${name} at ${mark.time} (seq:${mark.seq})${
              mark.pinned ? ", pinned" : ""
            }.\n`,
        );
      })
    );
}

/**
 * `varve events`
 *
 * @module
 */
import type { Command } from "commander";
import type { EventInfo } from "../src/engine.ts";
import { clientCommand, type CommonOptions, countArgument, print, withClient } from "./command.ts";
import { table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

interface EventsOptions extends CommonOptions {
  limit?: number;
  after?: number;
}

/** Adds the command. */
export function addEvents(program: Command, terminal: Terminal): void {
  clientCommand(program, "events", {
    summary: "List what happened by itself, oldest first",
    example: "events --limit 20",
  })
    .option("--limit <number>", "at most so many (100)", countArgument)
    .option("--after <id>", "only what came behind this event", countArgument)
    .action((options: EventsOptions) =>
      withClient(terminal, options, async (client) => {
        const { limit, after } = options;
        const found = await client.request<{ events: EventInfo[] }>("GET", "/v1/events", {
          query: { limit, after },
        });
        print(terminal, options, found, () =>
          table(
            [{ heading: "ID", align: "right" }, "TIME", "LEVEL", "KIND", "VOLUME", "MESSAGE"],
            found.events.map((event) => [
              String(event.id),
              event.time,
              event.level,
              event.kind,
              event.volume ?? "",
              event.message,
            ]),
          ));
      })
    );
}

/**
 * `varve versions`
 *
 * @module
 */
import type { Command } from "commander";
import type { FileVersionList, MomentRange } from "../src/engine.ts";
import {
  clientCommand,
  type CommonOptions,
  countArgument,
  print,
  volumePath,
  withClient,
} from "./command.ts";
import { modeText, rooted } from "./ls.ts";
import { table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

interface VersionsOptions extends CommonOptions {
  from?: string;
  to?: string;
  limit?: number;
}

/** Adds the command. */
export function addVersions(program: Command, terminal: Terminal): void {
  clientCommand(program, "versions <volume> <path>", {
    summary: "List every version of one file, newest first",
    example: "versions db /etc/fstab",
  })
    .option("--from <time>", "not before this time")
    .option("--to <time>", "not after this time")
    .option("--limit <number>", "at most so many", countArgument)
    .action((volume: string, path: string, options: VersionsOptions) =>
      withClient(terminal, options, async (client) => {
        const { from, to, limit } = options;
        const query = { path: rooted(path), from, to, limit };
        const found = await client.request<FileVersionList>("GET", volumePath(volume, "files", "versions"), {
          query,
        });
        print(terminal, options, found, () => versionsText(found));
      })
    );
}

function versionsText({ versions, unreadable, unproven, truncated }: FileVersionList): string {
  const rows = versions.map(({ from, until, file, contentChanged }) => [
    from.time,
    `seq:${from.seq}`,
    until.time,
    file === undefined ? "" : modeText(file),
    file === undefined ? "" : String(file.sizeBytes),
    file?.modifiedAt ?? "",
    file === undefined ? "absent" : contentChanged === false ? "attributes" : "content",
  ]);
  const size = { heading: "SIZE", align: "right" as const };
  const notes = [
    ...unreadable.map((range) => `It cannot be read ${spanText(range)}: ${range.reason}.\n`),
    ...unproven.map((range) => `Something short-lived may have been missed ${spanText(range)}.\n`),
    ...(truncated
      ? ["There may be older versions: --limit asks for more, --to for those before a time.\n"]
      : []),
  ];
  return table(["FROM", "SEQ", "UNTIL", "MODE", size, "MODIFIED", "WHAT"], rows) + notes.join("");
}

function spanText({ from, until }: MomentRange): string {
  return `from ${from.time} (seq:${from.seq}) to ${until.time} (seq:${until.seq})`;
}

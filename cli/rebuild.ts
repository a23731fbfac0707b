/**
 * `varve rebuild`: works on the data folder itself, while no appliance does. The engine is loaded only here.
 *
 * @module
 */
import type { Command } from "commander";
import { resolve } from "node:path";
import type { RebuiltFolder } from "../src/rebuild.ts";
import { count, table } from "./output.ts";
import { print } from "./command.ts";
import { progressBar } from "./progress_bar.ts";
import type { Terminal } from "./terminal.ts";

interface RebuildCommandOptions {
  data: string;
  includeDeleted?: true;
  json?: true;
}

/** Damages that are listed for people; the rest is counted. */
const DAMAGE_LINES_MAX = 20;

/** Adds the command. */
export function addRebuild(program: Command, terminal: Terminal): void {
  program.command("rebuild")
    .summary("Make the catalogue and the recovery maps anew from the segments")
    .description("Make the catalogue and the recovery maps anew from the segments, while no appliance runs.")
    .requiredOption("--data <dir>", "the data folder")
    .option("--include-deleted", "bring back volumes too that were deleted without --purge")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      "\nThe databases of before are kept beside the new ones as *.before-rebuild. Tokens, jobs and the audit\n" +
        "log are not in the segments: they are lost with the catalogue.\n" +
        "\nExample:\n  varve rebuild --data /var/lib/varve\n",
    )
    .action(async (options: RebuildCommandOptions) => {
      const { rebuildDataFolder } = await import("../src/rebuild.ts");
      const bar = progressBar("rebuild", terminal, options);
      let result: RebuiltFolder;
      try {
        result = await rebuildDataFolder({
          dataPath: resolve(options.data),
          includeDeleted: options.includeDeleted ?? false,
          onProgress: (doneBytes, totalBytes) => bar.show({ doneBytes, totalBytes }),
        });
      } finally {
        bar.stop();
      }
      print(terminal, options, result, () => resultText(result));
      if (result.failed.length > 0) await failed(result);
    });
}

/** The result is told; that a volume could not be rebuilt makes the command fail all the same. */
async function failed(result: RebuiltFolder): Promise<never> {
  const { VarveError } = await import("../src/base/errors.ts");
  throw new VarveError(
    "damaged",
    `rebuild: ${count(result.failed.length, "volume")} could not be rebuilt: ${result.failed[0]?.error}`,
    { hint: "What is in those folders has not been changed." },
  );
}

function resultText(result: RebuiltFolder): string {
  const right = (heading: string) => ({ heading, align: "right" as const });
  const volumes = table(
    [
      "NAME",
      right("SEGMENTS"),
      right("RECORDS"),
      right("MOMENTS"),
      right("MARKS"),
      right("DAMAGED"),
      "ID",
    ],
    result.volumes.map((volume) => [
      volume.name,
      String(volume.segments),
      String(volume.records),
      String(volume.moments),
      String(volume.marks),
      String(volume.damage.length),
      volume.id,
    ]),
  );
  const damages = result.volumes.flatMap(({ name, damage }) =>
    damage.map(({ segment, offset, end, found }) => [name, String(segment), `${offset}-${end}`, found])
  );
  const lines = [
    ...result.deleted.map(({ name, id }) =>
      `Left alone: ${name} (${id}), which was deleted; --include-deleted brings it back.\n`
    ),
    ...result.failed.map(({ id, error }) => `Not rebuilt: ${id}: ${error}\n`),
    result.catalog === "made"
      ? "There was no catalogue with tokens: the next start writes a new admin.token.\n"
      : "Tokens, jobs and audit log are those of before.\n",
  ];
  const damageTable = damages.length === 0 ? "" : `\n${
    table(
      ["VOLUME", right("SEGMENT"), right("BYTES"), "FOUND"],
      damages.slice(0, DAMAGE_LINES_MAX),
    )
  }${damages.length > DAMAGE_LINES_MAX ? `and ${damages.length - DAMAGE_LINES_MAX} more\n` : ""}\n`;
  return volumes + damageTable + lines.join("");
}

/**
 * `varve inspect`: explains a segment file. The engine is loaded only here.
 *
 * @module
 */
import type { Command } from "commander";
import { formatSize } from "../src/base/units.ts";
import { VarveError } from "../src/base/errors.ts";
import type { InspectedRecord, InspectedSegment } from "../src/inspect.ts";
import { print } from "./command.ts";
import { count, facts, printable, table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

interface InspectOptions {
  records?: true;
  json?: true;
}

/** Adds the command. */
export function addInspect(program: Command, terminal: Terminal): void {
  program.command("inspect <file>")
    .summary("Explain a segment file and check every byte of it")
    .description("Explain a segment file and check every byte of it. Exit code 1 when any is damaged.")
    .option("--records", "list every record")
    .option("--json", "print it as JSON")
    .addHelpText(
      "after",
      "\nExample:\n  varve inspect /var/lib/varve/volumes/ID/segments/000000000001.seg\n",
    )
    .action(async (file: string, options: InspectOptions) => {
      const { inspectSegment, KINDS_IN_ORDER } = await import("../src/inspect.ts");
      const records: InspectedRecord[] = [];
      const found = inspectSegment(file, {
        onRecord: (record) => {
          if (!options.records) return;
          if (options.json) records.push(record);
          else terminal.out(recordLine(record));
        },
      });
      const answer = options.records ? { ...found, list: records } : found;
      print(terminal, options, answer, () => segmentText(found, KINDS_IN_ORDER, options));
      if (!found.isWhole) {
        throw new VarveError(
          "damaged",
          `inspect ${file}: ${count(found.damage.length, "part")} of it cannot be proved`,
          { hint: "Reading what lies there is an error; all else can be read." },
        );
      }
    });
}

function recordLine(record: InspectedRecord): string {
  const { offset, bytes, kind, flags, seq, time, hostOffset, hostLength, text, damage } = record;
  const what = text === undefined ? `${hostOffset}+${hostLength}` : JSON.stringify(text);
  const parts = [
    String(offset).padStart(10),
    String(bytes).padStart(9),
    [kind, ...flags].join(",").padEnd(14),
    `seq:${seq}`.padEnd(12),
    time,
    what,
    ...(damage === undefined ? [] : [`DAMAGED: ${damage}`]),
  ];
  return `${printable(parts.join("  "))}\n`;
}

function segmentText(
  found: InspectedSegment,
  kinds: readonly InspectedRecord["kind"][],
  options: InspectOptions,
): string {
  const { header, volume, first, last } = found;
  const records = kinds.flatMap((kind) => {
    const number = found.records[kind];
    return number === undefined ? [] : [`${number} ${kind}`];
  });
  const text = facts([
    ["file", found.file],
    ["size", `${formatSize(found.bytes)} (${found.bytes} bytes)`],
    ["volume", volume === undefined ? undefined : `${volume.name}, ${formatSize(volume.sizeBytes)}`],
    ["volume id", header?.volumeId],
    ["segment", header === undefined ? undefined : String(header.segment)],
    ["begun", header?.created],
    ["written by", header === undefined ? undefined : header.compacted ? "compaction" : "capture"],
    ["replaces", found.replaces === undefined ? undefined : `segments ${found.replaces.join(", ")}`],
    ["follows", header === undefined ? undefined : `seq:${header.previousSeq}`],
    ["first command", first === undefined ? "none" : `${first.time} (seq:${first.seq})`],
    ["last command", last === undefined ? "none" : `${last.time} (seq:${last.seq})`],
    ["records", records.join(", ") || "none"],
    [
      "reserved",
      found.unusedBytes === 0 ? undefined : `${formatSize(found.unusedBytes)} that hold nothing yet`,
    ],
    ["payload", `${formatSize(found.payloadBytes)} (${found.payloadBytes} bytes)`],
    ["checksums", found.isWhole ? "all hold" : `${found.damage.length} do not hold`],
  ]);
  const damage = found.damage.length === 0 ? "" : `\n${
    table(
      [{ heading: "FROM BYTE", align: "right" }, { heading: "TO BYTE", align: "right" }, "FOUND"],
      found.damage.map(({ offset, end, found }) => [String(offset), String(end), found]),
    )
  }`;
  return `${options.records ? "\n" : ""}${text}${damage}`;
}

/**
 * `varve scrub`
 *
 * @module
 */
import type { Command } from "commander";
import { VarveError } from "../src/base/errors.ts";
import { formatSize } from "../src/base/units.ts";
import type { JobInfo, ScrubResult, VolumeInfo } from "../src/engine.ts";
import type { ApiClient } from "./client.ts";
import { clientCommand, type CommonOptions, print, sizeArgument, volumePath, withClient } from "./command.ts";
import { finishJob } from "./job.ts";
import { count, printable, table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

interface ScrubCommandOptions extends CommonOptions {
  rate?: number;
}

/** Points shown to people at most; `--json` has more. */
const POINTS_SHOWN = 50;

/** Adds the command. */
export function addScrub(program: Command, terminal: Terminal): void {
  clientCommand(program, "scrub [volume]", {
    summary: "Verify every checksum of a volume's history, or of every volume's",
    example: "scrub db --rate 100M",
  })
    .option("--rate <size>", "read at most so much a second (as fast as it goes)", sizeArgument)
    .action((volume: string | undefined, options: ScrubCommandOptions) =>
      withClient(terminal, options, async (client) => {
        const names = volume === undefined ? await volumeNames(client) : [volume];
        const jobs: JobInfo[] = [];
        for (const name of names) {
          const body = { rateBytes: options.rate };
          const started = await client.request<JobInfo>("POST", volumePath(name, "scrub"), { body });
          const job = await finishJob(client, started, terminal, options);
          jobs.push(job);
          if (!options.json) terminal.out(scrubText(name, resultOf(job)));
        }
        if (options.json) print(terminal, options, volume === undefined ? { jobs } : jobs[0], () => "");
        refuseDamage(jobs);
      })
    );
}

async function volumeNames(client: ApiClient): Promise<string[]> {
  const { volumes } = await client.request<{ volumes: VolumeInfo[] }>("GET", "/v1/volumes");
  return volumes.map((volume) => volume.name);
}

function resultOf(job: JobInfo): ScrubResult {
  return job.result as unknown as ScrubResult;
}

/** Damage makes the command fail, after all of it has been told. */
function refuseDamage(jobs: readonly JobInfo[]): void {
  const damaged = jobs.filter((job) => resultOf(job).damagedPlaces > 0);
  if (damaged.length === 0) return;
  const found = damaged.map((job) => {
    const { damagedPlaces, damagedPoints } = resultOf(job);
    return `${job.volume} has ${count(damagedPlaces, "damaged place")} and ${
      count(damagedPoints, "damaged point")
    }`;
  });
  const hints = new Set(damaged.flatMap((job) => resultOf(job).hint ?? []));
  throw new VarveError("damaged", `scrub: ${found.join(", ")}`, {
    ...(hints.size === 0 ? {} : { hint: [...hints].join(" ") }),
  });
}

function scrubText(volume: string, result: ScrubResult): string {
  const checked = `${printable(volume)}: ${formatSize(result.checkedBytes)} checked`;
  if (result.damagedPlaces === 0) return `${checked}, no damage\n`;
  return `${checked}, ${count(result.damagedPlaces, "damaged place")}\n\n${placesText(result)}\n${
    pointsText(result)
  }`;
}

function placesText({ places, damagedPlaces }: ScrubResult): string {
  const rest = damagedPlaces - places.length;
  return table(
    ["FILE", right("OFFSET"), right("LENGTH"), right("SEQ"), right("BLOCKS"), "PROBLEM"],
    places.map((place) => [
      place.file,
      String(place.offset ?? ""),
      String(place.length),
      String(place.seq ?? ""),
      String(place.blocks),
      place.harmless ? `${place.problem} (no kept moment sees it)` : place.problem,
    ]),
  ) + (rest > 0 ? `and ${rest} more\n` : "");
}

function pointsText(result: ScrubResult): string {
  const { damagedSeqs, damagedPoints, points } = result;
  if (damagedSeqs.length === 0) return "No kept moment is damaged.\n";
  const [first] = damagedSeqs;
  const last = damagedSeqs.at(-1);
  const spans = `Damaged moments: ${count(damagedSeqs.length, "span")} between seq:${first?.fromSeq} and ` +
    `seq:${last?.toSeq}, with ${count(damagedPoints, "point")}. All else reads on.\n`;
  if (points.length === 0) return spans;
  const shown = points.slice(0, POINTS_SHOWN);
  const rest = damagedPoints - shown.length;
  return `${spans}\n` + table(
    ["DAMAGED POINT", right("SEQ"), "KIND", "NAME"],
    shown.map((point) => [point.time, String(point.seq), point.kind, point.name ?? point.tier ?? ""]),
  ) + (rest > 0 ? `and ${rest} more\n` : "");
}

function right(heading: string): { heading: string; align: "right" } {
  return { heading, align: "right" };
}

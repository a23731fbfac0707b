/**
 * `varve points`
 *
 * @module
 */
import type { Command } from "commander";
import type { GapInfo, PointInfo, PointsPage } from "../src/engine.ts";
import type { ApiClient } from "./client.ts";
import {
  choiceArgument,
  clientCommand,
  collect,
  type CommonOptions,
  countArgument,
  print,
  volumePath,
  withClient,
} from "./command.ts";
import { table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

const KINDS: readonly PointInfo["kind"][] = ["created", "mark", "flush", "tier"];
const PAGE_POINTS = 1000;

interface PointsOptions extends CommonOptions {
  from?: string;
  to?: string;
  limit?: number;
  kind?: string[];
}

/** Adds the command. */
export function addPoints(program: Command, terminal: Terminal): void {
  clientCommand(program, "points <volume>", {
    summary: "List retained moments, oldest first",
    example: 'points db --from "2 hours ago" --kind mark',
  })
    .option("--from <time>", "not before this time")
    .option("--to <time>", "not after this time")
    .option("--limit <number>", "at most so many", countArgument)
    .option("--kind <kind>", `${KINDS.join(", ")}; may be given again`, collect(choiceArgument(KINDS)))
    .action((volume: string, options: PointsOptions) =>
      withClient(terminal, options, async (client) => {
        const page = await listPoints(client, volume, options);
        print(terminal, options, page, () => pointsText(page.points) + gapsText(page.gaps ?? []));
      })
    );
}

/** Goes on from page to page until there is no more, or enough. */
async function listPoints(client: ApiClient, volume: string, options: PointsOptions): Promise<PointsPage> {
  const { from, to, kind } = options;
  const points: PointInfo[] = [];
  let cursor: string | undefined;
  let gaps: GapInfo[] | undefined;
  do {
    const limit = Math.min(PAGE_POINTS, (options.limit ?? Infinity) - points.length);
    const query = { from, to, limit, cursor, kind: kind?.join(",") };
    const page = await client.request<PointsPage>("GET", volumePath(volume, "points"), { query });
    points.push(...page.points);
    cursor = page.nextCursor;
    gaps = page.gaps;
  } while (cursor !== undefined && points.length < (options.limit ?? Infinity));
  return {
    points,
    ...(cursor === undefined ? {} : { nextCursor: cursor }),
    ...(gaps === undefined ? {} : { gaps }),
  };
}

function pointsText(points: readonly PointInfo[]): string {
  return table(
    ["TIME", { heading: "SEQ", align: "right" }, "KIND", "PINNED", "NAME", "NOTE"],
    points.map((point) => [
      point.time,
      String(point.seq),
      point.tier === undefined ? point.kind : `${point.kind} ${point.tier}`,
      point.pinned ? "yes" : "",
      point.name ?? "",
      point.note ?? "",
    ]),
  );
}

function gapsText(gaps: readonly GapInfo[]): string {
  return gaps.map(({ from, to, reason }) => {
    const end = to === undefined ? "still open" : `to ${to.time} (seq:${to.seq})`;
    return `Gap from ${from.time} (after seq:${from.seq}), ${end}: ${reason}; no moment inside it exists.\n`;
  }).join("");
}

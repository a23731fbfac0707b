/**
 * `varve volume create|adopt|list|show|resize|clients|delete`
 *
 * @module
 */
import type { Command } from "commander";
import { resolve } from "node:path";
import { formatSize } from "../src/base/units.ts";
import type {
  ClientEntry,
  CreateVolumeRequest,
  ResizeRequest,
  ScrubSummary,
  VolumeInfo,
} from "../src/engine.ts";
import type { ApiClient } from "./client.ts";
import {
  clientCommand,
  type CommonOptions,
  countArgument,
  group,
  print,
  sizeArgument,
  volumePath,
  withClient,
} from "./command.ts";
import { count, facts, table } from "./output.ts";
import { pause } from "./pause.ts";
import { type ProgressBar, progressBar } from "./progress_bar.ts";
import type { Terminal } from "./terminal.ts";

const BASELINE_POLL_MS = 500;

/** Adds the commands. */
export function addVolume(program: Command, terminal: Terminal): void {
  const volume = group(program, "volume", "Create, adopt, list, show, resize and delete volumes");

  clientCommand(volume, "create <name>", {
    summary: "Make a new volume",
    example: "volume create db --size 10G",
  })
    .requiredOption("--size <size>", "size, such as 10G, 512M or 1TiB", sizeArgument)
    .option("--primary <path>", "where the live bytes are to be; left out: a sparse file in the data folder")
    .action((name: string, options: CommonOptions & { size: number; primary?: string }) =>
      withClient(terminal, options, async (client) => {
        const primary = options.primary === undefined ? undefined : { path: resolve(options.primary) };
        const body = { name, sizeBytes: options.size, primary };
        const made = await client.request<VolumeInfo>("POST", "/v1/volumes", { body });
        print(terminal, options, made, () => volumeText(made));
      })
    );

  clientCommand(volume, "adopt <name>", {
    summary: "Protect an existing file or block device",
    example: "volume adopt mail --primary /dev/sdb",
  })
    .requiredOption("--primary <path>", "the file or block device")
    .option("--wait", "until all of it is copied, and its past can be opened")
    .action((name: string, options: CommonOptions & { primary: string; wait?: true }) =>
      withClient(terminal, options, async (client) => {
        const body: CreateVolumeRequest = { name, primary: { path: resolve(options.primary), adopt: true } };
        let volume = await client.request<VolumeInfo>("POST", "/v1/volumes", { body });
        if (options.wait) {
          volume = await waitForBaseline(client, volume, progressBar("baseline", terminal, options));
        }
        print(terminal, options, volume, () => volumeText(volume) + adoptionText(volume));
      })
    );

  clientCommand(volume, "list", { summary: "List the volumes", example: "volume list" })
    .action((options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        const found = await client.request<{ volumes: VolumeInfo[] }>("GET", "/v1/volumes");
        print(terminal, options, found, () => volumeTable(found.volumes));
      })
    );

  clientCommand(volume, "show <name>", { summary: "Show one volume", example: "volume show db" })
    .action((name: string, options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        const found = await client.request<VolumeInfo>("GET", volumePath(name));
        print(terminal, options, found, () => volumeText(found));
      })
    );

  clientCommand(volume, "resize <name>", {
    summary: "Give a volume another size while hosts use it",
    example: "volume resize db --size 20G",
  })
    .requiredOption("--size <size>", "size, such as 10G, 512M or 1TiB", sizeArgument)
    .option("--force", "make it smaller: hosts lose what lies beyond the new end, the history keeps it")
    .action((name: string, options: CommonOptions & { size: number; force?: true }) =>
      withClient(terminal, options, async (client) => {
        const body: ResizeRequest = { sizeBytes: options.size, ...(options.force ? { force: true } : {}) };
        const resized = await client.request<VolumeInfo>("PATCH", volumePath(name), { body });
        print(terminal, options, resized, () => volumeText(resized));
      })
    );

  clientCommand(volume, "clients <name>", {
    summary: "List who changed a volume or is connected to it, newest first",
    example: "volume clients db --limit 20",
  })
    .option("--limit <number>", "at most so many (100)", countArgument)
    .action((name: string, options: CommonOptions & { limit?: number }) =>
      withClient(terminal, options, async (client) => {
        const found = await client.request<{ clients: ClientEntry[] }>("GET", `${volumePath(name)}/clients`, {
          query: { limit: options.limit },
        });
        print(terminal, options, found, () => clientTable(found.clients));
      })
    );

  clientCommand(volume, "delete <name>", { summary: "Forget a volume", example: "volume delete db --purge" })
    .option("--purge", "delete its history and its managed primary too")
    .action((name: string, options: CommonOptions & { purge?: true }) =>
      withClient(terminal, options, async (client) => {
        await client.request("DELETE", volumePath(name), { query: { purge: options.purge } });
        print(terminal, options, undefined, () => `Deleted volume ${name}.\n`);
      })
    );
}

/** Shows how far the first copy has come, until it is complete or the volume has failed. */
async function waitForBaseline(client: ApiClient, made: VolumeInfo, bar: ProgressBar): Promise<VolumeInfo> {
  let volume = made;
  try {
    while (volume.state === "baseline") {
      bar.show(volume.baseline);
      await pause(BASELINE_POLL_MS);
      volume = await client.request<VolumeInfo>("GET", volumePath(made.name));
    }
  } finally {
    bar.stop();
  }
  return volume;
}

/** What to do with a volume that is still being copied. */
function adoptionText({ name, state }: VolumeInfo): string {
  if (state !== "baseline") return "";
  return `\nEvery write is captured from now on; attach it at once. What it held before is being copied, and the past\n` +
    `can be opened when that is complete. Watch it with: varve volume show ${name}\n`;
}

/** Volumes, one a line. */
export function volumeTable(volumes: readonly VolumeInfo[]): string {
  return table(
    ["NAME", right("SIZE"), "STATE", right("HISTORY"), right("MARKS"), "WINDOW FROM", "WINDOW TO"],
    volumes.map((volume) => [
      volume.name,
      formatSize(volume.sizeBytes),
      volume.state === "baseline" ? `baseline ${percentCopied(volume)}%` : volume.state,
      formatSize(volume.historyBytes),
      String(volume.counts.marks),
      volume.window.from.time,
      volume.window.to.time,
    ]),
  );
}

/** Clients, one a line. */
function clientTable(clients: readonly ClientEntry[]): string {
  return table(
    [right("CLIENT"), "PEER", right("PID"), right("UID"), "CERTIFICATE", "OPENED", "NOW"],
    clients.map((client) => [
      String(client.client),
      client.peer,
      client.pid === undefined ? "" : String(client.pid),
      client.uid === undefined ? "" : String(client.uid),
      client.certificate ?? "",
      client.openedAt,
      client.connected ? "connected" : "",
    ]),
  );
}

/** Never 100 before it is complete. */
function percentCopied({ baseline: { doneBytes, totalBytes } }: VolumeInfo): number {
  return Math.floor(doneBytes / totalBytes * 100);
}

function right(heading: string): { heading: string; align: "right" } {
  return { heading, align: "right" };
}

function compressionText({ compressedSegments, rawBytes, storedBytes }: VolumeInfo["compression"]): string {
  const of = `${formatSize(rawBytes)} stored in ${formatSize(storedBytes)}`;
  return compressedSegments === 0 ? "nothing yet" : `${count(compressedSegments, "segment")}: ${of}`;
}

function volumeText(volume: VolumeInfo): string {
  const { window, baseline, counts, primary, scrub } = volume;
  return facts([
    ["name", volume.name],
    ["id", volume.id],
    ["size", `${formatSize(volume.sizeBytes)} (${volume.sizeBytes} bytes)`],
    ["state", volume.error === undefined ? volume.state : `${volume.state}: ${volume.error}`],
    ["primary", primary.managed ? `${primary.path} (managed)` : primary.path],
    ["created", volume.createdAt],
    ["window from", `${window.from.time} (seq:${window.from.seq})`],
    ["window to", `${window.to.time} (seq:${window.to.seq})`],
    ["capture", volume.capture === "gap" ? "past the history, which is full: a gap is open" : volume.capture],
    ["gaps", volume.gaps.length === 0 ? undefined : String(volume.gaps.length)],
    [
      "baseline",
      baseline.complete
        ? "complete"
        : `${formatSize(baseline.doneBytes)} of ${formatSize(baseline.totalBytes)} copied`,
    ],
    ["history", `${formatSize(volume.historyBytes)} in ${count(counts.segments, "segment")}`],
    ["compressed", compressionText(volume.compression)],
    ["marks", String(counts.marks)],
    ["scrubbed", scrub === undefined ? "not yet" : scrubbedText(scrub)],
    ["connections", String(counts.connections)],
    ["durable to", `seq:${volume.durableSeq}`],
    ["indexed to", `seq:${volume.indexedSeq}`],
  ]);
}

function scrubbedText({ finishedAt, damagedPlaces, damagedPoints }: ScrubSummary): string {
  return damagedPlaces === 0
    ? `${finishedAt}, no damage`
    : `${finishedAt}: ${count(damagedPlaces, "damaged place")}, ${count(damagedPoints, "damaged point")}`;
}

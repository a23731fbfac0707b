/**
 * `varve status`
 *
 * @module
 */
import type { Command } from "commander";
import { formatSize } from "../src/base/units.ts";
import type { StatusInfo } from "../src/engine.ts";
import { clientCommand, type CommonOptions, print, withClient } from "./command.ts";
import { facts } from "./output.ts";
import type { Terminal } from "./terminal.ts";
import { volumeTable } from "./volume.ts";

/** Adds the command. */
export function addStatus(program: Command, terminal: Terminal): void {
  clientCommand(program, "status", { summary: "Show the appliance as a whole", example: "status" })
    .action((options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        const status = await client.request<StatusInfo>("GET", "/v1/status");
        print(terminal, options, status, () => statusText(status));
      })
    );
}

function storageText({ freeBytes, totalBytes, watermarkBytes, state }: StatusInfo["storage"]): string {
  const free = `${formatSize(freeBytes)} of ${formatSize(totalBytes)} free`;
  if (state === "ok") return free;
  const watermark = `the watermark is ${formatSize(watermarkBytes)}`;
  return state === "low"
    ? `${free}, low: ${watermark}, the oldest history is thinned`
    : `${free}, full: writes are refused; ${watermark}`;
}

function statusText(status: StatusInfo): string {
  const { storage, jobs } = status;
  const overview = facts([
    ["version", status.version],
    ["running since", status.startedAt],
    ["data", status.dataPath],
    ["mounted at", status.mountPath],
    ["not mounted", status.mountError],
    ["NBD", status.nbd.join(" ") || undefined],
    ["API", status.api.join(" ") || undefined],
    ["storage", storageText(storage)],
    ["jobs", `${jobs.running} running, ${jobs.queued} queued, ${jobs.failed} failed`],
    ["volumes", String(status.volumes.length)],
  ]);
  return status.volumes.length === 0 ? overview : `${overview}\n${volumeTable(status.volumes)}`;
}

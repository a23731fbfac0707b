/**
 * The appliance's figures in the text exposition format of Prometheus, version 0.0.4.
 *
 * @module
 */
import type { CloneInfo, ScrubSummary, StatusInfo, VolumeInfo, VolumeState } from "../src/engine.ts";

/** Content type of {@linkcode renderMetrics}. */
export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

type Sample = readonly [labels: Record<string, string>, value: number];

const STATES: readonly VolumeState[] = ["ready", "baseline", "failed"];
const STORAGE_STATES: readonly StatusInfo["storage"]["state"][] = ["ok", "low", "full"];

/** Writes the figures of a status. */
export function renderMetrics(status: StatusInfo, ready: boolean): string {
  const one = (value: number): Sample[] => [[{}, value]];
  const each = (value: (volume: VolumeInfo) => number): Sample[] =>
    status.volumes.map((volume) => [{ volume: volume.name }, value(volume)]);
  const scrubbed = (value: (scrub: ScrubSummary) => number): Sample[] =>
    status.volumes.flatMap(({ name, scrub }) =>
      scrub === undefined ? [] : [[{ volume: name }, value(scrub)] as const]
    );
  return [
    gauge("varve_info", "Version of Varve, as a label.", [[{ version: status.version }, 1]]),
    gauge("varve_ready", "Whether the appliance can serve now.", one(Number(ready))),
    gauge("varve_start_time_seconds", "Since when it runs, in Unix time.", one(seconds(status.startedAt))),
    gauge(
      "varve_mounted",
      "Whether the tree of the past is mounted.",
      one(Number(status.mountPath !== undefined)),
    ),
    gauge("varve_storage_size_bytes", "Size of the data folder's storage.", one(status.storage.totalBytes)),
    gauge(
      "varve_storage_free_bytes",
      "Free space of the data folder's storage.",
      one(status.storage.freeBytes),
    ),
    gauge(
      "varve_storage_reserve_bytes",
      "Bytes set aside for the work that frees space.",
      one(status.storage.reserveBytes),
    ),
    gauge(
      "varve_storage_watermark_bytes",
      "With less free than this, history is thinned.",
      one(status.storage.watermarkBytes),
    ),
    gauge(
      "varve_storage_state",
      "1 for the state that the storage is in.",
      STORAGE_STATES.map((state) => [{ state }, Number(state === status.storage.state)]),
    ),
    counter(
      "varve_events_total",
      "Events since the appliance was started.",
      status.events.map(({ level, kind, count }) => [{ level, kind }, count]),
    ),
    gauge(
      "varve_jobs",
      "Jobs by state.",
      Object.entries(status.jobs).map(([state, count]) => [{ state }, count]),
    ),
    gauge(
      "varve_volume_state",
      "1 for the state that the volume is in.",
      status.volumes.flatMap(({ name, state: present }) =>
        STATES.map((state): Sample => [{ volume: name, state }, Number(state === present)])
      ),
    ),
    gauge("varve_volume_size_bytes", "Size of the volume.", each((v) => v.sizeBytes)),
    gauge("varve_volume_history_bytes", "Space that the history takes.", each((v) => v.historyBytes)),
    gauge(
      "varve_volume_compressed_saved_bytes",
      "Space that compressing finished segments has saved.",
      each((v) => v.compression.rawBytes - v.compression.storedBytes),
    ),
    counter(
      "varve_volume_refused_writes_total",
      "Writes, trims and zeroes refused for want of space since the volume was opened.",
      each((v) => v.refusedWrites),
    ),
    gauge("varve_volume_marks", "Marks.", each((v) => v.counts.marks)),
    gauge("varve_volume_segments", "Segments of the journal.", each((v) => v.counts.segments)),
    gauge("varve_volume_connections", "Hosts connected by NBD.", each((v) => v.counts.connections)),
    gauge("varve_volume_newest_seq", "Newest sequence.", each((v) => v.window.to.seq)),
    gauge("varve_volume_durable_seq", "Newest durable sequence.", each((v) => v.durableSeq)),
    gauge("varve_volume_indexed_seq", "Newest sequence in the recovery map.", each((v) => v.indexedSeq)),
    gauge(
      "varve_volume_window_start_seconds",
      "Oldest reconstructable moment, in Unix time.",
      each((v) => seconds(v.window.from.time)),
    ),
    gauge(
      "varve_volume_window_end_seconds",
      "Newest moment, in Unix time.",
      each((v) => seconds(v.window.to.time)),
    ),
    gauge(
      "varve_clones",
      "Writable disks of the past.",
      status.volumes.map(({ name }) => [{ volume: name }, clonesOf(status, name).length]),
    ),
    gauge(
      "varve_clone_used_bytes",
      "Data that clones have of their own.",
      status.volumes.map(({ name }) => [
        { volume: name },
        clonesOf(status, name).reduce((sum, { usedBytes }) => sum + usedBytes, 0),
      ]),
    ),
    gauge("varve_volume_gaps", "Gaps in the window of the history.", each((v) => v.gaps.length)),
    gauge(
      "varve_volume_in_gap",
      "Whether writes go past the history.",
      each((v) => Number(v.capture === "gap")),
    ),
    gauge(
      "varve_volume_baseline_missing_bytes",
      "Bytes of an adopted disk that have no independent copy yet.",
      each((v) => v.baseline.complete ? 0 : v.baseline.totalBytes - v.baseline.doneBytes),
    ),
    gauge(
      "varve_volume_scrub_damaged_places",
      "Damaged places that the last scrub found.",
      scrubbed((v) => v.damagedPlaces),
    ),
    gauge(
      "varve_volume_scrub_damaged_points",
      "Points that the last scrub found damaged.",
      scrubbed((v) => v.damagedPoints),
    ),
    gauge(
      "varve_volume_scrub_finished_seconds",
      "When the last scrub finished, in Unix time.",
      scrubbed((v) => seconds(v.finishedAt)),
    ),
  ].join("");
}

function clonesOf(status: StatusInfo, volume: string): CloneInfo[] {
  return status.clones.filter((clone) => clone.volume === volume);
}

function gauge(name: string, help: string, samples: readonly Sample[]): string {
  return family("gauge", name, help, samples);
}

function counter(name: string, help: string, samples: readonly Sample[]): string {
  return family("counter", name, help, samples);
}

function family(type: string, name: string, help: string, samples: readonly Sample[]): string {
  const lines = samples.map(([labels, value]) => `${name}${labelSet(labels)} ${value}\n`);
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function labelSet(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function seconds(time: string): number {
  return Date.parse(time) / 1000;
}

/**
 * Following a job: progress for people, Ctrl-C, the end.
 *
 * @module
 */
import type { JobInfo } from "../src/engine.ts";
import { type ApiClient, ProblemError } from "./client.ts";
import type { CommonOptions } from "./command.ts";
import { progressBar } from "./progress_bar.ts";
import type { Terminal } from "./terminal.ts";

/**
 * Waits for a job to end, with a progress bar on a terminal. Ctrl-C asks the appliance to cancel it.
 *
 * @throws {ProblemError} when the job failed or was cancelled.
 */
export async function finishJob(
  client: ApiClient,
  started: JobInfo,
  terminal: Terminal,
  options: CommonOptions,
): Promise<JobInfo> {
  const bar = progressBar(started.kind, terminal, options);
  let cancelling: Promise<unknown> = Promise.resolve();
  const interrupt = terminal.onInterrupt(() => {
    cancelling = client.request("DELETE", `/v1/jobs/${encodeURIComponent(started.id)}`).catch(ignoreEnded);
  });
  let job = started;
  try {
    for await (job of client.follow(started.id)) bar.show(job.progress);
    await cancelling;
  } finally {
    interrupt.stop();
    bar.stop();
  }
  if (job.state === "succeeded") return job;
  throw new ProblemError(
    job.error ?? { code: "cancelled", detail: `Running the ${job.kind} of ${job.volume}: it was cancelled` },
  );
}

/** The job may end by itself before the order to cancel it arrives. */
function ignoreEnded(thrown: unknown): void {
  if (!(thrown instanceof ProblemError)) throw thrown;
}

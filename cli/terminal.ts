/**
 * What the commands know of the world around them, so that tests can stand in for it.
 *
 * @module
 */

/** Standard streams, environment and signals of one run. */
export interface Terminal {
  /** Writes to standard output. */
  out(text: string): void;
  /** Writes to standard error. */
  err(text: string): void;
  /** Copies bytes to standard output as they are. */
  copyOut(bytes: ReadableStream<Uint8Array>): Promise<void>;
  /** Whether a person watches standard error, so that progress is worth drawing. */
  readonly isInteractive: boolean;
  /** A variable of the environment. */
  env(name: string): string | undefined;
  /** Calls back at each SIGINT until `stop` is called. */
  onInterrupt(callback: () => void): { stop(): void };
}

/** The real world. */
export function systemTerminal(): Terminal {
  const encoder = new TextEncoder();
  return {
    out: (text) => writeAll(Deno.stdout, encoder.encode(text)),
    err: (text) => writeAll(Deno.stderr, encoder.encode(text)),
    copyOut: (bytes) => bytes.pipeTo(Deno.stdout.writable, { preventClose: true }),
    isInteractive: Deno.stderr.isTerminal(),
    env: (name) => Deno.env.get(name),
    onInterrupt(callback) {
      Deno.addSignalListener("SIGINT", callback);
      return { stop: () => Deno.removeSignalListener("SIGINT", callback) };
    },
  };
}

function writeAll(stream: { writeSync(bytes: Uint8Array): number }, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length;) written += stream.writeSync(bytes.subarray(written));
}

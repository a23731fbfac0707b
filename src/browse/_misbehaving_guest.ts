/**
 * A sandbox that does what its disk tells it to, for tests. The inode of a `stat` says what: see {@linkcode MISDEEDS}.
 *
 * @module
 */
import type { FromGuest, ToGuest } from "./guest_calls.ts";

/** What it can do, by inode. Any other inode is answered with its number as the size. */
export const MISDEEDS = {
  loops: 1,
  dies: 2,
  reads: 3,
  calls: 4,
  connects: 5,
  runs: 6,
} as const;

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<ToGuest>) => void) | null;
  postMessage(message: FromGuest): void;
};

async function attempt(inode: number): Promise<unknown> {
  switch (inode) {
    case MISDEEDS.reads:
      return Deno.readTextFileSync("/etc/hostname");
    case MISDEEDS.calls:
      return Deno.dlopen("libc.so.6", {});
    case MISDEEDS.connects:
      return await Deno.connect({ hostname: "127.0.0.1", port: 9 });
    case MISDEEDS.runs:
      return await new Deno.Command("true").output();
    default:
      return inode;
  }
}

scope.onmessage = async ({ data }) => {
  if (data.kind === "start") scope.postMessage({ ready: true });
  if (data.kind !== "ask" || data.question.call !== "stat") return;
  const { inode } = data.question;
  if (inode === MISDEEDS.loops) { for (;;); }
  if (inode === MISDEEDS.dies) {
    queueMicrotask(() => {
      throw new Error("it died");
    });
    return;
  }
  try {
    scope.postMessage({ id: data.id, answer: await attempt(inode) });
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.name : `${thrown}`;
    scope.postMessage({
      id: data.id,
      error: { code: "forbidden", message, hint: undefined, field: undefined, details: undefined },
    });
  }
};

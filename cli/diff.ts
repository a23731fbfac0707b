/**
 * `varve diff`
 *
 * @module
 */
import type { Command } from "commander";
import type { BlockChanges, FileChange, FileChanges } from "../src/engine.ts";
import type { ApiClient } from "./client.ts";
import {
  clientCommand,
  type CommonOptions,
  countArgument,
  print,
  volumePath,
  withClient,
} from "./command.ts";
import { rooted } from "./ls.ts";
import { count, printable, table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

const PAGE_EXTENTS = 10_000;

interface DiffOptions extends CommonOptions {
  from: string;
  to: string;
  files?: true;
  path?: string;
  limit?: number;
}

/** Adds the command. */
export function addDiff(program: Command, terminal: Terminal): void {
  clientCommand(program, "diff <volume>", {
    summary: "Tell what changed between two moments: blocks, or files",
    example: 'diff db --from "1h ago" --to now --files',
  })
    .requiredOption("--from <time>", "the earlier moment")
    .requiredOption("--to <time>", "the later moment")
    .option("--files", "files that were created, deleted, changed or renamed")
    .option("--path <path>", "with --files: only what is there and below")
    .option("--limit <number>", "at most so many", countArgument)
    .action((volume: string, options: DiffOptions) =>
      withClient(terminal, options, async (client) => {
        if (options.files === undefined) {
          const found = await blockChanges(client, volume, options);
          print(terminal, options, found, () => blocksText(found));
          return;
        }
        const { from, to, limit, path } = options;
        const query = { from, to, limit, files: "true", path: path === undefined ? undefined : rooted(path) };
        const found = await client.request<FileChanges>("GET", volumePath(volume, "diff"), { query });
        print(terminal, options, found, () => filesText(found));
      })
    );
}

/** Goes on from page to page until there is no more, or enough. */
async function blockChanges(client: ApiClient, volume: string, options: DiffOptions): Promise<BlockChanges> {
  const { from, to, limit = Infinity } = options;
  const ask = (offset: number | undefined, wanted: number) =>
    client.request<BlockChanges>("GET", volumePath(volume, "diff"), {
      query: { from, to, offset, limit: Math.min(PAGE_EXTENTS, wanted) },
    });
  const all = await ask(undefined, limit);
  while (all.nextOffset !== undefined && all.extents.length < limit) {
    // The first page has fixed the moments: "now" moves on.
    const query = {
      from: `seq:${all.from.seq}`,
      to: `seq:${all.to.seq}`,
      offset: all.nextOffset,
      limit: Math.min(PAGE_EXTENTS, limit - all.extents.length),
    };
    const next = await client.request<BlockChanges>("GET", volumePath(volume, "diff"), { query });
    all.extents.push(...next.extents);
    all.changedBytes += next.changedBytes;
    if (next.nextOffset === undefined) delete all.nextOffset;
    else all.nextOffset = next.nextOffset;
  }
  return all;
}

function blocksText({ extents, changedBytes, nextOffset }: BlockChanges): string {
  const right = (heading: string) => ({ heading, align: "right" as const });
  const rows = extents.map(({ offset, length }) => [String(offset), String(length)]);
  const more = nextOffset === undefined ? "" : ", and there are more";
  return `${table([right("OFFSET"), right("LENGTH")], rows)}${count(extents.length, "run")}, ${
    count(changedBytes, "byte")
  }${more}\n`;
}

const LETTERS: Record<FileChange["kind"], string> = {
  created: "A",
  deleted: "D",
  changed: "M",
  renamed: "R",
};

function filesText({ changes, unreadable, truncated }: FileChanges): string {
  const lines = changes.map((change) => {
    const { kind, path, previousPath, contentChanged } = change;
    const name = previousPath === undefined
      ? printable(path)
      : `${printable(previousPath)} -> ${printable(path)}`;
    const letter = kind === "changed" && !contentChanged ? "m" : LETTERS[kind];
    return `${letter}  ${name}\n`;
  });
  const problems = unreadable.map(({ path, reason }) => `!  ${printable(path)}: ${printable(reason)}\n`);
  return [...lines, ...problems, ...(truncated ? ["There is more: --limit asks for it.\n"] : [])].join("");
}

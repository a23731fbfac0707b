/**
 * `varve ls`
 *
 * @module
 */
import type { Command } from "commander";
import type { DeletedFiles, FileInfo, FileListing } from "../src/engine.ts";
import { clientCommand, type CommonOptions, print, volumePath, withClient } from "./command.ts";
import { table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

interface LsOptions extends CommonOptions {
  at: string;
  deleted?: true;
}

/** Adds the command. */
export function addLs(program: Command, terminal: Terminal): void {
  clientCommand(program, "ls <volume> [path]", {
    summary: "List a directory of the past",
    example: 'ls db /var/lib --at "10m ago"',
  })
    .requiredOption("--at <time>", "the moment")
    .option("--deleted", "what it held before, and holds no more")
    .action((volume: string, path: string | undefined, options: LsOptions) =>
      withClient(terminal, options, async (client) => {
        const query = { at: options.at, path: rooted(path ?? "/") };
        if (options.deleted) {
          const where = volumePath(volume, "files", "deleted");
          const deleted = await client.request<DeletedFiles>("GET", where, { query });
          print(terminal, options, deleted, () => deletedText(deleted));
          return;
        }
        const listing = await client.request<FileListing>("GET", volumePath(volume, "files"), { query });
        print(terminal, options, listing, () => listingText(listing));
      })
    );
}

/** Paths in a volume begin at its root, whether or not the slash was typed. */
export function rooted(path: string): string {
  return path.startsWith("/") ? path : `/${path}`;
}

function listingText(listing: FileListing): string {
  const right = (heading: string) => ({ heading, align: "right" as const });
  return table(
    ["MODE", right("LINKS"), right("UID"), right("GID"), right("SIZE"), "MODIFIED", "NAME"],
    (listing.entries ?? [listing.file]).map((file) => [
      modeText(file),
      String(file.links),
      String(file.uid),
      String(file.gid),
      String(file.sizeBytes),
      file.modifiedAt,
      file.target === undefined ? file.name : `${file.name} -> ${file.target}`,
    ]),
  );
}

function deletedText({ files, truncated }: DeletedFiles): string {
  const size = { heading: "SIZE", align: "right" as const };
  const rows = files.map(({ file, lastSeen }) => [
    `seq:${lastSeen.seq}`,
    lastSeen.time,
    modeText(file),
    String(file.sizeBytes),
    file.name,
  ]);
  const more = truncated ? "There may be more.\n" : "";
  return table(["LAST SEEN", "AT", "MODE", size, "NAME"], rows) + more;
}

const TYPE_LETTERS: Record<FileInfo["type"], string> = {
  file: "-",
  directory: "d",
  symlink: "l",
  fifo: "p",
  socket: "s",
  block: "b",
  character: "c",
};

/** Type and permissions as `ls -l` shows them: `-rwsr-xr-x`. */
export function modeText({ type, mode }: Pick<FileInfo, "type" | "mode">): string {
  const bits = parseInt(mode, 8);
  const permissions = [...("rwxrwxrwx")].map((letter, index) => bits & (0o400 >> index) ? letter : "-");
  const special: [bit: number, index: number, letter: string][] = [[0o4000, 2, "s"], [0o2000, 5, "s"], [
    0o1000,
    8,
    "t",
  ]];
  for (const [bit, index, letter] of special) {
    if (bits & bit) permissions[index] = permissions[index] === "x" ? letter : letter.toUpperCase();
  }
  return TYPE_LETTERS[type] + permissions.join("");
}

/**
 * The host of the demo: it has an ext4 file system on a disk that it reaches over NBD.
 *
 * A machine with nothing but Debian's base system has no NBD client of the kernel's and may have no loop device. So the
 * host keeps its disk in an image file, changes that with the tools of e2fsprogs, and then writes what changed to the
 * export, block by block, as a kernel would write back its cache.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { posix } from "node:path";
import type { NbdClient } from "./nbd_client.ts";

/** The unit in which the host's file system writes. */
const BLOCK_BYTES = 4096;
const CHUNK_BYTES = 1024 * 1024;

/** Where Debian keeps mkfs and fsck, which an ordinary user's PATH leaves out. */
const SYSTEM_PATH = `${Deno.env.get("PATH") ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`;

/** A change to the host's files; paths are absolute in its file system. */
export type HostChange =
  | { write: string; content: Uint8Array }
  | { remove: string }
  | { makeDirectory: string };

/** What a program printed. Throws an `Error` with it when the program fails, unless it exits with an allowed code. */
export async function runProgram(command: string, args: string[]): Promise<string> {
  const options = { args, env: { PATH: SYSTEM_PATH, LC_ALL: "C" }, stdin: "null" } as const;
  const { code, stdout, stderr } = await new Deno.Command(command, options).output();
  const decoder = new TextDecoder();
  const printed = `${decoder.decode(stdout)}${decoder.decode(stderr)}`.trim();
  if (code !== 0) throw new Error(`Running ${command} ${args.join(" ")}: exit code ${code}\n${printed}`);
  return printed;
}

/** The host's disk: an image with ext4 and the way to write it to the export. */
export class DemoHost {
  readonly #folder: string;
  readonly #imagePath: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#imagePath = `${folder}/host.img`;
  }

  /** Makes the image in `folder` and formats it. */
  static async format(folder: string, sizeBytes: number): Promise<DemoHost> {
    const host = new DemoHost(folder);
    using image = await Deno.create(host.#imagePath);
    await image.truncate(sizeBytes);
    await runProgram("mkfs.ext4", ["-q", "-F", "-b", String(BLOCK_BYTES), "-L", "demo", host.#imagePath]);
    return host;
  }

  /** Changes files in the image, in order. What is written must not exist yet; paths hold no spaces. */
  async change(changes: readonly HostChange[]): Promise<void> {
    const script: string[] = [];
    // debugfs takes the folder of "/name" for the current one, so each name is used from within its folder.
    const within = (path: string) => {
      script.push(`cd ${posix.dirname(path)}`);
      return posix.basename(path);
    };
    for (const [index, change] of changes.entries()) {
      if ("makeDirectory" in change) {
        script.push(`mkdir ${within(change.makeDirectory)}`);
      } else if ("remove" in change) {
        script.push(`rm ${within(change.remove)}`);
      } else {
        const sourcePath = `${this.#folder}/source-${index}`;
        await Deno.writeFile(sourcePath, change.content);
        script.push(`write ${sourcePath} ${within(change.write)}`);
      }
    }
    const scriptPath = `${this.#folder}/debugfs-script`;
    await Deno.writeTextFile(scriptPath, `${script.join("\n")}\n`);
    const printed = await runProgram("debugfs", ["-w", "-f", scriptPath, this.#imagePath]);
    // Its exit code is 0 whatever happens; every line that is not of these kinds is a complaint.
    const complaint = printed.split("\n").find((line) => !/^(?:debugfs|Allocated inode|$)/.test(line));
    if (complaint !== undefined) throw new Error(`Changing the host's files: ${complaint}`);
  }

  /** Writes every block that differs to the export and flushes; returns the number of bytes written. */
  async writeBack(disk: NbdClient): Promise<number> {
    let writtenBytes = 0;
    using image = await Deno.open(this.#imagePath);
    const wanted = Buffer.alloc(CHUNK_BYTES);
    for (let offset = 0; offset < disk.sizeBytes; offset += CHUNK_BYTES) {
      await readFully(image, wanted);
      const there = Buffer.from((await disk.read(offset, CHUNK_BYTES)).buffer);
      for (const [start, end] of differingRuns(wanted, there)) {
        await disk.write(offset + start, wanted.subarray(start, end));
        writtenBytes += end - start;
      }
    }
    await disk.flush();
    return writtenBytes;
  }

  /** SHA-256 of the whole disk, as the host sees it. */
  hash(): Promise<string> {
    return hashFile(this.#imagePath);
  }
}

/** SHA-256 of a file, in hexadecimal. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (let count = await file.read(chunk); count !== null; count = await file.read(chunk)) {
    hash.update(chunk.subarray(0, count));
  }
  return hash.digest("hex");
}

/** Runs of differing blocks between two buffers of the same length, as `[start, end)` in bytes. */
function* differingRuns(wanted: Buffer, there: Buffer): Generator<[start: number, end: number]> {
  if (wanted.equals(there)) return;
  let start: number | undefined;
  for (let offset = 0; offset < wanted.length; offset += BLOCK_BYTES) {
    const same = wanted.subarray(offset, offset + BLOCK_BYTES).equals(
      there.subarray(offset, offset + BLOCK_BYTES),
    );
    if (!same) start ??= offset;
    else if (start !== undefined) {
      yield [start, offset];
      start = undefined;
    }
  }
  if (start !== undefined) yield [start, wanted.length];
}

async function readFully(file: Deno.FsFile, target: Uint8Array): Promise<void> {
  for (let filled = 0; filled < target.length;) {
    const count = await file.read(target.subarray(filled));
    if (count === null) throw new Error("Reading the host's image: found its end too early");
    filled += count;
  }
}

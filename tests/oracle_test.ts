/**
 * An oracle that is not ours: Debian's `nbd-server` is sent the very commands that Varve is sent, and the log of its
 * transactions, replayed by `nbd-trplay` up to any command, holds what Varve shows as of that command's sequence.
 *
 * What the two make of commands (nbd 3.24):
 * - The server writes requests and replies to the log, and with `datalog` the data of writes. FUA is a flag of the logged
 *   request and changes nothing for a replay. `-d` makes it serve one client and end with it.
 * - `nbd-trplay -m N` stops after N blocks of 512 bytes that writes, trims and zeroings covered, in the order of the log, be
 *   it within a request; reads and flushes count nothing. Ranges must be multiples of 512.
 * - A replayed trim or zeroing writes zeroes, as Varve promises. The server itself may leave trimmed bytes as they are, which the
 *   protocol allows, so its own image is not compared.
 *
 * @module
 */
import assert from "node:assert/strict";
import { withAppliance } from "./support/appliance.ts";
import { MIB, Random, sha256 } from "./support/bytes.ts";
import { sparseFile } from "./support/devices.ts";
import { NbdDisk } from "./support/nbd_disk.ts";
import { ENVIRONMENT, exists, run, until } from "./support/run.ts";

const SIZE_BYTES = 8 * MIB;
const SECTOR_BYTES = 512;
const COMMANDS = 600;
/** Moments that are compared. */
const COMPARED = 60;

/** `nbd-server` for one client, whose log is whole when it has ended. */
async function startServer(
  folder: string,
  image: string,
): Promise<{ log: string; open: () => Promise<NbdDisk> } & AsyncDisposable> {
  const [socket, log, config] = ["nbd-server.sock", "transactions.log", "nbd-server.conf"]
    .map((name) => `${folder}/${name}`) as [string, string, string];
  const lines = [
    "[generic]",
    `unixsock = ${socket}`,
    "[disk]",
    `exportname = ${image}`,
    `transactionlog = ${log}`,
    ...["datalog", "flush", "fua", "trim"].map((option) => `${option} = true`),
  ];
  await Deno.writeTextFile(config, lines.join("\n"));
  const child = new Deno.Command("nbd-server", {
    args: ["-d", "-C", config],
    env: ENVIRONMENT,
    stdin: "null",
  }).spawn();
  let hasEnded = false;
  const ended = child.status.then(() => hasEnded = true);
  return {
    log,
    /** Opens its disk. The socket's file is there before the server listens, and it serves no second client. */
    async open() {
      let disk: NbdDisk | undefined;
      await until("nbd-server listens", async () => {
        if (hasEnded) throw new Error("nbd-server ended at once");
        if (!await exists(socket)) return false;
        try {
          disk = await NbdDisk.open(socket, "disk");
        } catch (thrown) {
          if (!(thrown instanceof Deno.errors.ConnectionRefused)) throw thrown;
        }
        return disk !== undefined;
      });
      assert(disk !== undefined);
      return disk;
    },
    async [Symbol.asyncDispose]() {
      // It ends with its client; a test that failed before has none.
      const killer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await ended;
      clearTimeout(killer);
    },
  };
}

/** Sends the same commands to both; returns after each how many sectors were changed and how many commands were sent. */
async function sendToBoth(
  oracle: NbdDisk,
  varve: NbdDisk,
  random: Random,
): Promise<{ sectors: number; seq: number }[]> {
  const moments: { sectors: number; seq: number }[] = [];
  let sectors = 0;
  for (let seq = 1; seq <= COMMANDS; seq++) {
    const count = random.magnitude(1, 256);
    const offset = random.integer(0, SIZE_BYTES / SECTOR_BYTES - count) * SECTOR_BYTES;
    const length = count * SECTOR_BYTES;
    const kind = random.integer(1, 10);
    if (kind === 1) {
      for (const disk of [oracle, varve]) await disk.flush();
    } else if (kind <= 3) {
      for (const disk of [oracle, varve]) await disk.trim(offset, length);
    } else if (kind === 5) {
      for (const disk of [oracle, varve]) await disk.zero(offset, length);
    } else {
      const data = random.bytes(length);
      for (const disk of [oracle, varve]) await disk.write(offset, data, { fua: kind === 4 });
    }
    if (kind > 1) sectors += count;
    if (sectors > 0) moments.push({ sectors, seq });
  }
  return moments;
}

Deno.test(
  "oracle: nbd-server's log replayed up to a command equals the volume as of that sequence",
  withAppliance(async (appliance) => {
    const random = new Random(41);
    const image = `${appliance.folder}/oracle.img`;
    await sparseFile(image, SIZE_BYTES);
    await appliance.createVolume("disk", SIZE_BYTES);
    const uri = (seq: number) => `disk@seq:${seq}`;
    const contentAt = async (seq: number) => {
      await using past = await appliance.disk(uri(seq));
      return await past.read(0, SIZE_BYTES);
    };

    const server = await startServer(appliance.folder, image);
    let moments: { sectors: number; seq: number }[];
    {
      await using _server = server;
      await using oracle = await server.open();
      await using varve = await appliance.disk("disk");
      moments = await sendToBoth(oracle, varve, random);
      await varve.flush();
    }

    const replayed = `${appliance.folder}/replayed.img`;
    const seen = new Set<string>();
    for (let n = 1; n <= COMPARED; n++) {
      const moment = moments[Math.floor(n * moments.length / COMPARED) - 1];
      assert.ok(moment !== undefined);
      await Deno.remove(replayed).catch(() => {});
      await sparseFile(replayed, SIZE_BYTES);
      const said = await run("nbd-trplay", "-i", replayed, "-l", server.log, "-m", `${moment.sectors}`);
      assert.match(said, /g_max_blocks .* reached/, `the log has ${moment.sectors} sectors`);
      const expected = sha256(await Deno.readFile(replayed));
      assert.equal(sha256(await contentAt(moment.seq)), expected, `sequence ${moment.seq}`);
      seen.add(expected);
    }
    assert.ok(seen.size > COMPARED * 0.8, `only ${seen.size} different contents were compared`);
  }),
);

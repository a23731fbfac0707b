/**
 * More of other people's clients against a whole appliance: tools that chain, convert, benchmark and inject faults.
 * `interop_test.ts` has what each of qemu-io, nbdcopy, nbdinfo and fio does by itself.
 *
 * @module
 */
import assert from "node:assert/strict";
import { withNbdkit } from "../tools/_nbdkit.ts";
import { withAppliance } from "./support/appliance.ts";
import { assertFile, KIB, MIB, Random } from "./support/bytes.ts";
import { attempt, pause, run } from "./support/run.ts";

const SIZE_BYTES = 64 * MIB;

for (const blockSize of ["4k", "64k"]) {
  Deno.test(
    `clients: fio finds what it wrote in blocks of ${blockSize} that it had trimmed before`,
    withAppliance(async (appliance) => {
      await appliance.createVolume("disk", SIZE_BYTES);
      await appliance.mark("disk", "blank");
      const job = ["--name=verify", "--ioengine=nbd", `--uri=${appliance.uri("disk")}`, "--size=16M"];
      const load = ["--rw=randtrimwrite", `--bs=${blockSize}`, "--iodepth=8", "--randseed=31", "--fsync=100"];
      const verify = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0"];
      const said = await run("fio", ...job, ...load, ...verify, "--output-format=json");
      const [report] = JSON.parse(said.slice(said.indexOf("{"))).jobs;
      assert.equal(report.error, 0);
      const blocks = 16 * MIB / (parseInt(blockSize) * KIB);
      const counts = [report.trim, report.write, report.read].map(({ total_ios: count }) => count);
      assert.deepEqual(counts, [blocks, blocks, blocks], "every block was trimmed, written and read back");
      await run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 0 64M", appliance.uri("disk@mark:blank"));
    }),
  );
}

Deno.test(
  "clients: qemu-img converts in and out, compares, and what its benchmark overwrites stays in the past",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    const content = new Random(37).bytes(SIZE_BYTES).fill(0, 9 * MIB, 40 * MIB);
    const [source, copy, qcow2] = ["source.img", "copy.img", "copy.qcow2"]
      .map((name) => `${appliance.folder}/${name}`) as [string, string, string];
    await Deno.writeFile(source, content);
    const uri = appliance.uri("disk");
    await run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, uri);
    assert.match(await run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri), /identical/);
    await appliance.mark("disk", "converted");

    const bench = ["bench", "-f", "raw", "-w", "-c", "2000", "-d", "16", "-s", "16384", "--pattern=85"];
    await run("qemu-img", ...bench, "--flush-interval=100", "-t", "none", uri);
    await run("qemu-io", "-f", "raw", "-c", "read -P 85 0 31M", uri);
    assert.equal((await attempt("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)).code, 1);

    const past = appliance.uri("disk@mark:converted");
    await run("qemu-img", "convert", "-f", "raw", "-O", "raw", past, copy);
    await assertFile(copy, content, "converted from the past");
    await run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", past, qcow2);
    assert.match(await run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", qcow2, past), /identical/);
  }),
);

Deno.test(
  "clients: through an nbdkit that delays, fails and retries, everything arrives once and in order",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    const uri = appliance.uri("disk");
    const inject = `${appliance.folder}/inject`;
    const chain = [
      ...["--filter=delay", "--filter=error", "nbd", `uri=${uri}`],
      ...["delay-write=1ms", "error=EIO", "error-rate=100%", `error-file=${inject}`],
    ];
    const retry = ["--filter=retry", ...chain, "retries=60", "retry-delay=1", "retry-exponential=no"];
    const content = new Random(43).bytes(8 * MIB);
    const [source, copy] = [`${appliance.folder}/source.img`, `${appliance.folder}/copy.img`];
    await Deno.writeFile(source, content);
    const io = (socket: string, ...commands: string[]) =>
      attempt(
        "qemu-io",
        ...["-f", "raw", `nbd+unix:///?socket=${socket}`],
        ...commands.flatMap((command) => ["-c", command]),
      );

    await withNbdkit(chain, async (socket) => {
      assert.equal((await io(socket, "write -P 1 0 64k", "read -P 1 0 64k")).code, 0, "without faults");
      await Deno.writeTextFile(inject, "");
      const { stdout, stderr } = await io(socket, "write -P 2 0 64k");
      assert.match(stdout + stderr, /error/i, "a fault without a retry reaches the client");
      await Deno.remove(inject);
    });
    await run("qemu-io", "-f", "raw", "-c", "read -P 1 0 64k", uri);

    await withNbdkit(retry, async (socket) => {
      const whileFailing = async (work: () => Promise<void>) => {
        await Deno.writeTextFile(inject, "");
        let isDone = false;
        const done = work().finally(() => isDone = true);
        await pause(500);
        assert.equal(isDone, false, "nothing goes through before the fault is gone");
        await Deno.remove(inject);
        await done;
      };
      const through = `nbd+unix:///?socket=${socket}`;
      await whileFailing(async () => {
        await run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, through);
      });
      await appliance.mark("disk", "written");
      await whileFailing(async () => {
        const { code, stdout } = await io(
          socket,
          "write -P 7 4k 8k",
          "discard 64k 64k",
          "write -z -u 1M 128k",
          "write -f -P 9 2M 1M",
          "read -P 7 4k 8k",
          "read -P 0 64k 64k",
          "read -P 0 1M 128k",
          "read -P 9 2M 1M",
        );
        assert.equal(code, 0, stdout);
      });
    });
    content.fill(7, 4 * KIB, 12 * KIB).fill(0, 64 * KIB, 128 * KIB).fill(0, MIB, MIB + 128 * KIB);
    content.fill(9, 2 * MIB, 3 * MIB);
    const expected = new Uint8Array(SIZE_BYTES);
    expected.set(content);
    await run("nbdcopy", "--connections=4", uri, copy);
    await assertFile(copy, expected, "the live volume");
    await Deno.remove(copy);
    expected.set(await Deno.readFile(source));
    await run("nbdcopy", "--connections=4", appliance.uri("disk@mark:written"), copy);
    await assertFile(copy, expected, "the past");
  }),
);

Deno.test(
  "clients: nbdkit's copy-on-write filter on top of the past makes it writable, and the past stays",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    await run("qemu-io", "-f", "raw", "-c", "write -P 5 0 1M", "-c", "flush", appliance.uri("disk"));
    await appliance.mark("disk", "then");
    const past = appliance.uri("disk@mark:then");
    await withNbdkit(["--filter=cow", "nbd", `uri=${past}`], async (socket) => {
      const commands = ["write -P 6 4k 4k", "read -P 5 0 4k", "read -P 6 4k 4k", "read -P 5 8k 1016k"];
      const over = `nbd+unix:///?socket=${socket}`;
      await run("qemu-io", "-f", "raw", ...commands.flatMap((command) => ["-c", command]), over);
    });
    await run("qemu-io", "-r", "-f", "raw", "-c", "read -P 5 0 1M", past);
  }),
);

Deno.test(
  "clients: nbd-client lists the volumes over TCP",
  withAppliance(async (appliance) => {
    await appliance.createVolume("db", MIB);
    await appliance.createVolume("mail", MIB);
    const address = appliance.place.nbd.find((place) => place.startsWith("127.0.0.1:")) ?? "";
    const port = address.slice(address.lastIndexOf(":") + 1);
    const said = await run("nbd-client", "--list", "127.0.0.1", port);
    assert.deepEqual([...said.matchAll(/^(\w+): live volume/gm)].map(([, name]) => name).sort(), [
      "db",
      "mail",
    ]);
  }, { nbd: ["127.0.0.1:0"] }),
);

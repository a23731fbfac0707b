/**
 * Other people's clients against a whole appliance: qemu, libnbd, fio.
 *
 * @module
 */
import assert from "node:assert/strict";
import { withAppliance } from "./support/appliance.ts";
import { assertFile, MIB, Random } from "./support/bytes.ts";
import { attempt, run } from "./support/run.ts";

const SIZE_BYTES = 64 * MIB;

Deno.test(
  "interop: qemu-io writes, forces, zeroes, discards and flushes; a mark of it equals its recovery",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    const uri = appliance.uri("disk");
    const io = async (target: string, ...commands: string[]) => {
      const said = await run(
        "qemu-io",
        "-f",
        "raw",
        target,
        ...commands.flatMap((command) => ["-c", command]),
      );
      assert.doesNotMatch(said, /fail|error/i);
    };
    await io(
      uri,
      "write -P 0x11 0 4M",
      "write -f -P 0x22 3234567 8901",
      "write -z 65536 131072",
      "write -z -u 262144 131072",
      "write -z -f 524288 1k",
      "discard 1M 512k",
      "aio_write -P 0x33 10M 1M",
      "aio_flush",
      "write -f -P 0x44 67108352 512",
      "flush",
    );
    await appliance.mark("disk", "patterns");
    await io(uri, "write -P 0x55 0 64M", "flush");
    const checks = [
      "read -P 0x11 0 65536",
      "read -P 0 65536 131072",
      "read -P 0x11 196608 65536",
      "read -P 0 262144 131072",
      "read -P 0 524288 1k",
      "read -P 0 1M 512k",
      "read -P 0x22 3234567 8901",
      "read -P 0 4M 6M",
      "read -P 0x33 10M 1M",
      "read -P 0 11M 52M",
      "read -P 0x44 67108352 512",
    ];
    const past = appliance.uri("disk@mark:patterns");
    const said = await run(
      "qemu-io",
      "-r",
      "-f",
      "raw",
      past,
      ...checks.flatMap((command) => ["-c", command]),
    );
    assert.doesNotMatch(said, /fail|error/i);
    const refused = await attempt("qemu-io", "-f", "raw", "-c", "write 0 512", past);
    assert.match(refused.stdout + refused.stderr, /read.?only|denied/i, "the past can't be written");

    const target = `${appliance.folder}/recovered.img`;
    await appliance.recover("disk", "mark:patterns", target);
    assert.match(
      await run("qemu-img", "compare", "-f", "raw", "-F", "raw", past, target),
      /identical/,
    );
    assert.equal((await attempt("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, target)).code, 1);
  }),
);

Deno.test(
  "interop: nbdcopy with four connections copies in and out, over a Unix socket and TCP",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES + 1536);
    const content = new Random(23).bytes(SIZE_BYTES + 1536).fill(0, 5 * MIB, 20 * MIB);
    const source = `${appliance.folder}/source.img`;
    await Deno.writeFile(source, content);
    await run("nbdcopy", "--connections=4", "--flush", source, appliance.uri("disk"));
    await appliance.mark("disk", "copied");

    const tcp = appliance.place.nbd.find((address) => address.startsWith("127.0.0.1:"));
    assert.match(tcp ?? "", /:[1-9]\d*$/, "a port of 0 becomes the real one");
    const copy = `${appliance.folder}/copy.img`;
    for (
      const uri of [
        appliance.uri("disk"),
        appliance.uri("disk@mark:copied"),
        `nbd://${tcp}/disk%40mark%3Acopied`,
      ]
    ) {
      await run("nbdcopy", "--connections=4", uri, copy);
      await assertFile(copy, content, uri);
      await Deno.remove(copy);
    }
    await run("qemu-io", "-f", "raw", "-c", "write -P 0x66 0 1M", "-c", "flush", `nbd://${tcp}/disk`);
    await run("qemu-io", "-f", "raw", "-c", "read -P 0x66 0 1M", appliance.uri("disk"));
  }, { nbd: ["127.0.0.1:0"] }),
);

Deno.test(
  "interop: nbdinfo lists the volumes and tells what a volume and its past are",
  withAppliance(async (appliance) => {
    await appliance.createVolume("db", 3 * MIB + 512);
    await appliance.createVolume("mail", MIB);
    await appliance.mark("db", "first");
    const list = JSON.parse(
      await run("nbdinfo", "--list", "--json", `nbd+unix:///?socket=${appliance.nbdPath}`),
    );
    assert.deepEqual(
      list.exports.map((one: Record<string, unknown>) => [one["export-name"], one["export-size"]]).sort(),
      [["db", 3 * MIB + 512], ["mail", MIB]],
    );
    const about = async (name: string) => {
      const info = JSON.parse(await run("nbdinfo", "--json", appliance.uri(name)));
      const { is_read_only, can_flush, can_fua, can_trim, can_zero } = info.exports[0];
      return { size: info.exports[0]["export-size"], is_read_only, can_flush, can_fua, can_trim, can_zero };
    };
    const live = { size: 3 * MIB + 512, is_read_only: false, can_flush: true, can_fua: true };
    assert.deepEqual(await about("db"), { ...live, can_trim: true, can_zero: true });
    const past = await about("db@mark:first");
    assert.equal(past.size, 3 * MIB + 512);
    assert.equal(past.is_read_only, true);
  }),
);

Deno.test(
  "interop: fio's own verification finds every block",
  withAppliance(async (appliance) => {
    await appliance.createVolume("disk", SIZE_BYTES);
    const job = ["--name=verify", "--ioengine=nbd", `--uri=${appliance.uri("disk")}`, "--size=16M"];
    const load = ["--rw=randwrite", "--bsrange=512-64k", "--bs_unaligned=1", "--iodepth=16", "--randseed=29"];
    const said = await run(
      "fio",
      ...job,
      ...load,
      ...["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--fsync=64", "--output-format=json"],
    );
    const report = JSON.parse(said.slice(said.indexOf("{")));
    assert.equal(report.jobs[0].error, 0);
    assert.equal(report.jobs[0].read.io_bytes, report.jobs[0].write.io_bytes, "everything was read back");
  }),
);

import assert from "node:assert/strict";
import { withNbdkit } from "./_nbdkit.ts";
import { NbdClient } from "./nbd_client.ts";

/** 8 MiB in memory under the name `disk`. */
const SERVER = ["--filter=exportname", "memory", "8M", "exportname-strict=true", "exportname=disk"];

Deno.test("NbdClient writes, reads, trims and flushes on nbdkit", async () => {
  await withNbdkit(SERVER, async (socketPath) => {
    const data = crypto.getRandomValues(new Uint8Array(65_536));
    {
      await using client = await NbdClient.connect(socketPath, "disk");
      assert.equal(client.sizeBytes, 8 * 1024 ** 2);
      await client.write(4097, data);
      await client.flush();
      await client.trim(8192, 4096);
    }
    await using again = await NbdClient.connect(socketPath, "disk");
    const found = await again.read(4096, 65_537);
    const expected = new Uint8Array(65_537);
    expected.set(data, 1);
    expected.fill(0, 4096, 8192);
    assert.deepEqual(found, expected);
  });
});

Deno.test("NbdClient reports errors of the server and stays usable after a refused request", async () => {
  await withNbdkit(SERVER, async (socketPath) => {
    await assert.rejects(
      NbdClient.connect(socketPath, "other"),
      /Opening the export other: refused with 0x8000000/,
    );
    await using client = await NbdClient.connect(socketPath, "disk");
    await assert.rejects(client.read(8 * 1024 ** 2, 1), /NBD read of 1 bytes at 8388608: found error/);
    assert.deepEqual(await client.read(0, 1), new Uint8Array(1));
  });
});

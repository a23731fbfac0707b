import assert from "node:assert/strict";
import { withNbdkit } from "./_nbdkit.ts";
import { DemoHost, hashFile, runProgram } from "./demo_host.ts";
import { NbdClient } from "./nbd_client.ts";

const SIZE_BYTES = 16 * 1024 ** 2;

Deno.test("DemoHost writes its file system to an export, first whole and then what changed", async () => {
  const folder = await Deno.makeTempDir({ prefix: "varve-host-" });
  const exported = `${folder}/exported.img`;
  await Deno.writeFile(exported, new Uint8Array());
  await Deno.truncate(exported, SIZE_BYTES);
  try {
    await withNbdkit(["file", exported], async (socketPath) => {
      await using disk = await NbdClient.connect(socketPath, "");
      const host = await DemoHost.format(folder, SIZE_BYTES);
      const content = crypto.getRandomValues(new Uint8Array(50_000));
      await host.change([
        { makeDirectory: "/letters" },
        { write: "/letters/anna", content },
        { write: "/notes", content: new TextEncoder().encode("first") },
      ]);
      const wholeBytes = await host.writeBack(disk);
      assert.equal(await hashFile(exported), await host.hash());
      await runProgram("e2fsck", ["-fn", exported]);
      await runProgram("debugfs", ["-R", `dump /letters/anna ${folder}/out`, exported]);
      assert.deepEqual(await Deno.readFile(`${folder}/out`), content);

      const second = new TextEncoder().encode("second");
      await host.change([
        { remove: "/letters/anna" },
        { remove: "/notes" },
        { write: "/notes", content: second },
      ]);
      const changedBytes = await host.writeBack(disk);
      assert.ok(changedBytes > 0 && changedBytes < wholeBytes, `${changedBytes} of ${wholeBytes} bytes`);
      assert.equal(await hashFile(exported), await host.hash());
      assert.equal(await host.writeBack(disk), 0);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("DemoHost tells what debugfs complained about", async () => {
  const folder = await Deno.makeTempDir({ prefix: "varve-host-" });
  try {
    const host = await DemoHost.format(folder, SIZE_BYTES);
    await assert.rejects(
      host.change([{ remove: "/nothing" }]),
      /Changing the host's files: rm: File not found/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

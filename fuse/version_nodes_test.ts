import assert from "node:assert/strict";
import { mountToys } from "./_mounting.ts";
import { type ToyInode, wholeDisk } from "./_testing.ts";

const TIMES = [
  "2026-11-22T10:15:00.100000Z",
  "2026-11-22T10:15:01.000000Z",
  "2026-11-22T10:15:02.000000Z",
] as const;

/** `/etc/file` in each moment, `/etc/lost` in the first, `/gone/inner` in the first. */
function disk(moment: number): ReturnType<typeof wholeDisk> {
  const early: Record<string, number> = moment === 1 ? { lost: 5 } : {};
  const gone: Record<string, number> = moment === 1 ? { gone: 6 } : {};
  const inodes: Record<number, ToyInode> = {
    2: { names: { etc: 3, ...gone } },
    3: { names: { file: 4, ...early } },
    4: { content: `version ${moment}\n`, mode: 0o600 },
    5: { content: "lost\n" },
    6: { names: { inner: 5 } },
  };
  return wholeDisk(inodes);
}

function mountHistory() {
  const moments = Object.fromEntries(
    TIMES.map((time, index) => [index + 1, { time, disk: disk(index + 1) }]),
  );
  return mountToys({ v: { moments } }, { nowMs: () => 0 });
}

Deno.test(".varve has every version of a file, and is not listed", async () => {
  await using mounted = await mountHistory();
  mounted.history.versionsOf["/etc/file"] = [1, 3];
  assert.equal(
    await mounted.sh(
      `cd v/at/now; ls -A; stat -c %a .varve/versions; cd .varve/versions; ls; cd etc; ls file; cat file/*; cat file/none`,
    ),
    [
      "etc",
      "700",
      "etc",
      "2026-11-22T10:15:00.100Z\n2026-11-22T10:15:02.000Z",
      "version 1\nversion 3",
      "cat: file/none: No such file or directory",
    ].join("\n"),
  );
  assert.equal(
    await mounted.sh(`stat -c '%a %s' v/points/2026-11-22T10:15:01.000Z/.varve/versions/etc/file/*:02.000Z`),
    "600 10",
  );
});

Deno.test(".varve has what a folder held before, with what is below", async () => {
  await using mounted = await mountHistory();
  mounted.history.deletedFrom["/etc"] = { lost: 1 };
  mounted.history.deletedFrom["/"] = { gone: 1 };
  mounted.history.versionsOf["/etc/lost"] = [1];
  assert.equal(
    await mounted.sh(`
      cd v/at/now/.varve; ls deleted; cat deleted/etc/lost deleted/gone/inner; ls deleted/etc; ls deleted/etc/file
      ls versions; cat versions/etc/lost/*; ls versions/etc/never; cat README | head -1 | cut -c 1-18`),
    [
      "gone",
      "lost\nlost",
      "lost",
      "ls: cannot access 'deleted/etc/file': No such file or directory",
      "etc\ngone",
      "lost",
      "ls: cannot access 'versions/etc/never': No such file or directory",
      "versions/PATH/TIME",
    ].join("\n"),
  );
});

Deno.test("a guest's own .varve is the guest's", async () => {
  await using mounted = await mountToys({
    v: {
      moments: {
        1: { time: TIMES[0], disk: wholeDisk({ 2: { names: { ".varve": 3 } }, 3: { content: "mine\n" } }) },
      },
    },
  });
  assert.equal(await mounted.sh("cat v/at/now/.varve; ls -A v/at/now"), "mine\n.varve");
});

Deno.test("what is asked again within moments is not worked out again", async () => {
  await using mounted = await mountHistory();
  mounted.history.versionsOf["/etc/file"] = [1, 2, 3];
  await mounted.sh("ls -l v/at/now/.varve/versions/etc/file; cat v/at/now/.varve/versions/etc/file/*");
  const { asked } = mounted.history;
  assert.ok(asked <= 2, `it was asked ${asked} times`);
});

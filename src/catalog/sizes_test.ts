import assert from "node:assert/strict";
import path from "node:path";
import { RecoveryMap } from "./recovery_map.ts";
import { Sizes } from "./sizes.ts";

Deno.test("Sizes tells the size of each sequence, whatever order it learns them in, and keeps them", () => {
  const folder = Deno.makeTempDirSync({ prefix: "varve-sizes-" });
  const place = path.join(folder, "map.sqlite");
  let map = new RecoveryMap(place);
  try {
    const sizes = new Sizes(map, 100);
    sizes.note({ fromSeq: 20, sizeBytes: 50 });
    sizes.note({ fromSeq: 10, sizeBytes: 300 });
    // No moment had what is said twice from one sequence on: the later text counts.
    sizes.note({ fromSeq: 20, sizeBytes: 70 });
    map.transaction(() => sizes.save());
    map.close();
    map = new RecoveryMap(place);
    // What is said of the beginning counts only where nothing is known.
    const again = new Sizes(map, 999);
    assert.deepEqual([0, 9, 10, 19, 20, 1e9].map((seq) => again.at(seq)), [100, 100, 300, 300, 70, 70]);
    assert.deepEqual([again.initialBytes, again.largestBytes, again.newestBytes], [100, 300, 70]);
    again.note({ fromSeq: 20, sizeBytes: 80 });
    map.transaction(() => again.save());
    assert.equal(new Sizes(map, 999).newestBytes, 80);
  } finally {
    map.close();
    Deno.removeSync(folder, { recursive: true });
  }
});

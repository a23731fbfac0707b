import assert from "node:assert/strict";
import { VarveError } from "./base/errors.ts";
import { Catalog } from "./catalog/catalog.ts";
import { Events } from "./events.ts";

const CLOCK = { nowUs: () => 1_795_000_000_000_000 };

/** A catalogue that can be full. */
class FullCatalog extends Catalog {
  full = false;

  override transaction<T>(work: () => T): T {
    if (this.full) throw new VarveError("no-space", "database or disk is full");
    return super.transaction(work);
  }
}

Deno.test("Events are kept, counted, and listed behind one another", () => {
  const catalog = new Catalog(":memory:");
  const events = new Events(catalog, CLOCK);
  for (let i = 1; i <= 5; i++) {
    events.add({
      level: "warning",
      kind: "history.thinned",
      volume: "db",
      message: `step ${i}`,
      details: { i },
    });
  }
  events.add({ level: "info", kind: "storage.ok", message: "enough" });
  assert.deepEqual(events.list({}).map(({ id }) => id), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(events.list({ limit: 2 }).map(({ id }) => id), [5, 6]);
  assert.deepEqual(events.list({ after: 2, limit: 2 }).map(({ id }) => id), [3, 4]);
  assert.deepEqual(events.list({ after: 6 }), []);
  assert.deepEqual(events.list({ after: 1, limit: 1 }), [{
    id: 2,
    time: "2026-11-18T11:06:40.000000Z",
    level: "warning",
    kind: "history.thinned",
    volume: "db",
    message: "step 2",
    details: { i: 2 },
  }]);
  assert.deepEqual(events.counts(), [
    { level: "warning", kind: "history.thinned", count: 5 },
    { level: "info", kind: "storage.ok", count: 1 },
  ]);
  const later = new Events(catalog, CLOCK);
  later.add({ level: "info", kind: "storage.ok", message: "again" });
  assert.deepEqual(later.list({ limit: 1 }).map(({ id }) => id), [7]);
  catalog.close();
});

Deno.test("Events that find no room wait in memory, are listed, and are written later", () => {
  const catalog = new FullCatalog(":memory:");
  const events = new Events(catalog, CLOCK);
  events.add({ level: "info", kind: "a", message: "written" });
  catalog.full = true;
  events.add({ level: "error", kind: "storage.full", message: "waiting" });
  events.add({ level: "error", kind: "storage.full", message: "waiting too" });
  assert.equal(catalog.events({ limit: 10 }).length, 1);
  assert.deepEqual(events.list({}).map(({ id }) => id), [1, 2, 3]);
  assert.deepEqual(events.list({ after: 1, limit: 1 }).map(({ id }) => id), [2]);
  catalog.full = false;
  events.write();
  assert.deepEqual(catalog.events({ limit: 10 }).map(({ id }) => id), [1, 2, 3]);
  catalog.close();
});

Deno.test("the catalogue keeps the newest events", () => {
  const catalog = new Catalog(":memory:");
  const row = { timeUs: 1, level: "info", kind: "k", volume: undefined, message: "", details: "{}" };
  catalog.addEvents([1, 2, 3, 4, 5, 6].map((id) => ({ id, ...row })), 4);
  assert.deepEqual(catalog.events({ limit: 10 }).map(({ id }) => id), [3, 4, 5, 6]);
  catalog.close();
});

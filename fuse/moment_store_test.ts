import assert from "node:assert/strict";
import { ToyHistory, wholeDisk } from "./_testing.ts";
import { MomentStore, type PastMoment } from "./moment_store.ts";

const createdAt = "2026-01-01T00:00:00Z";

function makeStore(count: number, limit: number) {
  const moments = Object.fromEntries(
    Array.from(
      { length: count },
      (_, seq) => [seq, { time: "2026-11-22T10:15:00.000000Z", disk: wholeDisk({}) }],
    ),
  );
  const history = new ToyHistory({ v: { createdAt, moments } });
  return { history, store: new MomentStore({ source: history, limit }) };
}

function past(seq: number): PastMoment {
  return { volume: "v", createdAt, seq, timeNs: 0n };
}

Deno.test("MomentStore opens a moment once for all who ask at the same time", async () => {
  const { history, store } = makeStore(1, 4);
  await Promise.all([1, 2, 3].map(() => store.use(past(0), (view) => view.disk())));
  assert.deepEqual(history.opened, ["v@0"]);
  assert.ok(!(store.use(past(0), () => 1) instanceof Promise));
  store.close();
  assert.equal(history.openViews, 0);
});

Deno.test("MomentStore lets nobody use a closed moment, however many are opened at once", async () => {
  const { history, store } = makeStore(50, 2);
  const open = new Set<number>();
  const source = history.open.bind(history);
  history.open = async (volume, seq) => {
    const view = await source(volume, seq);
    open.add(seq);
    return { ...view, close: () => (open.delete(seq), view.close()) };
  };
  await Promise.all(
    Array.from(
      { length: 50 },
      (_, seq) => store.use(past(seq), () => assert.ok(open.has(seq), `${seq} is closed`)),
    ),
  );
  assert.equal(history.openViews, 2);
  store.close();
  assert.equal(history.openViews, 0);
});

Deno.test("MomentStore gives back a view that arrives after its end", async () => {
  const { history, store } = makeStore(1, 2);
  const using = store.use(past(0), () => 1);
  store.close();
  await assert.rejects(Promise.resolve(using), { code: "cancelled" });
  assert.equal(history.openViews, 0);
});

Deno.test("MomentStore refuses the moment of a volume that was made again", async () => {
  const { history, store } = makeStore(1, 2);
  await assert.rejects(
    Promise.resolve(store.use({ ...past(0), createdAt: "2020-01-01T00:00:00Z" }, () => 1)),
    { code: "not-found" },
  );
  assert.deepEqual(history.opened, []);
});

import assert from "node:assert/strict";
import path from "node:path";
import { Clients, CLIENTS_MAX, Connections } from "./clients.ts";
import { RecoveryMap } from "./recovery_map.ts";

function withMap(work: (map: RecoveryMap) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "varve-clients-" });
  const map = new RecoveryMap(path.join(folder, "map.sqlite"));
  try {
    work(map);
  } finally {
    map.close();
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("Clients keeps the newest identities, and the last number whatever becomes of them", () => {
  withMap((map) => {
    const clients = new Clients(map);
    for (let client = 1; client <= CLIENTS_MAX + 5; client++) {
      clients.note({ client, peer: `p${client}`, openedUs: client });
    }
    map.transaction(() => clients.save());
    const again = new Clients(map);
    const kept = again.newest(CLIENTS_MAX * 2);
    assert.equal(kept.length, CLIENTS_MAX);
    assert.deepEqual(kept.at(-1), { client: 6, peer: "p6", openedUs: 6 });
    again.noteLast(20_000);
    map.transaction(() => again.save());
    assert.equal(new Clients(map).last, 20_000);
  });
});

Deno.test("Clients.save() is repeated when its transaction was rolled back", () => {
  withMap((map) => {
    const clients = new Clients(map);
    clients.note({ client: 1, peer: "unix", openedUs: 1 });
    assert.throws(() =>
      map.transaction(() => {
        clients.save();
        throw new Error("the disk is full");
      })
    );
    map.transaction(() => clients.save());
    assert.deepEqual(new Clients(map).newest(9), [{ client: 1, peer: "unix", openedUs: 1 }]);
  });
});

Deno.test("Connections gives no number twice, and says of a client once who it is", () => {
  withMap((map) => {
    const clients = new Clients(map);
    clients.noteLast(6);
    const connections = new Connections(clients);
    const [one, other] = [connections.admit({ peer: "a" }, 1), connections.admit({ peer: "b" }, 2)];
    assert.deepEqual([one, other], [7, 8]);
    assert.equal(clients.last, 6, "one that has changed nothing is not known");
    const stranger = connections.stranger(other);
    assert.deepEqual(stranger, { client: 8, peer: "b", openedUs: 2 });
    if (stranger !== undefined) connections.introduced(stranger);
    assert.equal(connections.stranger(other), undefined);
    connections.dismiss(one);
    connections.dismiss(other);
    assert.deepEqual(connections.newest(9), [{ identity: stranger, isConnected: false }]);
    clients.noteLast(2 ** 32 - 1);
    assert.throws(() => new Connections(clients).admit({ peer: "c" }, 3), { code: "conflict" });
  });
});

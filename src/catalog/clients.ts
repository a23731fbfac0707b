/**
 * Who the connections were that changed a volume: the journal's records carry their numbers.
 *
 * The journal's texts tell of them, and table `clients` repeats the newest {@linkcode CLIENTS_MAX}. The last number is
 * kept apart from the table, because texts may be gone with their segments while a number must never be given twice.
 * {@linkcode Clients.save} is called in the transaction that moves the position from which the next start reads the
 * journal.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import type { RecoveryMap } from "./recovery_map.ts";

/** Identities that are kept at most. */
export const CLIENTS_MAX = 10_000;
/** The field of a record's header that holds a client has 32 bits. */
const NUMBER_MAX = 2 ** 32 - 1;

/** A connection that changed a volume. */
export interface ClientIdentity {
  /** Its number, from 1, unique within the volume for good. */
  readonly client: number;
  /** Address of the other end: `HOST:PORT`, or `unix`. */
  readonly peer: string;
  /** The process and user at the other end of a Unix socket, as the kernel told them. */
  readonly credentials?: { readonly pid: number; readonly uid: number; readonly gid: number };
  /** Subject of the certificate that the client has proved to own. */
  readonly certificate?: string;
  /** Whether the connection was encrypted. */
  readonly tls?: boolean;
  /** When it was opened, in microseconds. */
  readonly openedUs: number;
}

/** The identities of one volume's clients, kept with its recovery map. */
export class Clients {
  readonly #map: RecoveryMap;
  /** Identities that the table may not have. */
  readonly #unsaved = new Map<number, ClientIdentity>();
  #last: number;

  /** Begins with what `map` has. */
  constructor(map: RecoveryMap) {
    this.#map = map;
    this.#last = map.getState("last_client", 0);
  }

  /** The last number that a text has told of, or 0. */
  get last(): number {
    return this.#last;
  }

  /** Takes what a text says; it may have been told before. */
  note(identity: ClientIdentity): void {
    this.#unsaved.set(identity.client, identity);
    this.noteLast(identity.client);
  }

  /** Takes the last number that was given, whoever had it. */
  noteLast(client: number): void {
    this.#last = Math.max(this.#last, client);
  }

  /** The newest identities first, at most `limit` of them. */
  newest(limit: number): ClientIdentity[] {
    const rows = this.#map.statement("SELECT identity FROM clients ORDER BY client DESC LIMIT ?").all(limit);
    const found = new Map(this.#unsaved);
    for (const row of rows) {
      const identity = JSON.parse(String(row["identity"])) as ClientIdentity;
      found.set(identity.client, identity);
    }
    return [...found.values()].sort((a, b) => b.client - a.client).slice(0, limit);
  }

  /** What the table does not have. */
  unsaved(): UnsavedClients {
    const find = this.#map.statement("SELECT 1 FROM clients WHERE client = ?");
    // Forgotten only when it is found: the transaction that was to save it may have been rolled back.
    for (const client of this.#unsaved.keys()) {
      if (find.get(client) !== undefined || client <= this.#last - CLIENTS_MAX) this.#unsaved.delete(client);
    }
    return { identities: [...this.#unsaved.values()], last: this.#last };
  }

  /** Brings to the table what it does not have. To be called within a transaction. */
  save(): void {
    saveClients(this.#map, this.unsaved());
  }
}

/** What a table of clients is to learn. */
export interface UnsavedClients {
  /** Identities, oldest first. */
  readonly identities: readonly ClientIdentity[];
  /** The last number that a text has told of. */
  readonly last: number;
}

/** Enters clients in the table. To be called within a transaction. */
export function saveClients(map: RecoveryMap, { identities, last }: UnsavedClients): void {
  if (map.getState("last_client", 0) < last) map.setState("last_client", last);
  if (identities.length === 0) return;
  const insert = map.statement("INSERT OR IGNORE INTO clients VALUES (?, ?)");
  for (const identity of identities) insert.run(identity.client, JSON.stringify(identity));
  map.statement("DELETE FROM clients WHERE client <= (SELECT max(client) FROM clients) - ?").run(CLIENTS_MAX);
}

/** What is known of a connection that is opened. */
export type NewClient = Omit<ClientIdentity, "client" | "openedUs">;

/**
 * Connections to a live volume. One gets its number when it is opened, and is made known when it first changes
 * something: until then it leaves no trace, and its number may be given again by the next life of the volume.
 */
export class Connections {
  readonly #clients: Clients;
  readonly #open = new Map<number, ClientIdentity>();
  readonly #unknown = new Map<number, ClientIdentity>();
  #last: number;

  /** Goes on behind the last number of `clients`. */
  constructor(clients: Clients) {
    this.#clients = clients;
    this.#last = clients.last;
  }

  /** Gives a new connection its number. Throws `conflict` when there is none left. */
  admit(client: NewClient, openedUs: number): number {
    if (this.#last >= NUMBER_MAX) {
      throw new VarveError("conflict", "connect to a volume: it has no number left for a client", {
        hint: "It has had four billion connections. Recover it to a new volume.",
      });
    }
    const identity = { client: ++this.#last, ...client, openedUs };
    this.#open.set(identity.client, identity);
    this.#unknown.set(identity.client, identity);
    return identity.client;
  }

  /** A connection has ended. */
  dismiss(client: number): void {
    this.#open.delete(client);
    this.#unknown.delete(client);
  }

  /** Who a client is that has not been made known yet; `undefined` for all others. */
  stranger(client: number): ClientIdentity | undefined {
    return this.#unknown.get(client);
  }

  /** A text in the journal tells of a client. */
  introduced(identity: ClientIdentity): void {
    this.#unknown.delete(identity.client);
    this.#clients.note(identity);
  }

  /** The newest clients first, those that are connected and have changed nothing among them. */
  newest(limit: number): { identity: ClientIdentity; isConnected: boolean }[] {
    const found = new Map(this.#clients.newest(limit).map((identity) => [identity.client, identity]));
    for (const identity of this.#open.values()) found.set(identity.client, identity);
    return [...found.values()].sort((a, b) => b.client - a.client).slice(0, limit).map((identity) => ({
      identity,
      isConnected: this.#open.has(identity.client),
    }));
  }
}

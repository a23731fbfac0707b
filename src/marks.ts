/**
 * Marks and policies of volumes: in the journal first, then in the catalogue, so that a crash in between is made good
 * at the next start.
 *
 * @module
 */
import type { Access } from "./access.ts";
import { VarveError } from "./base/errors.ts";
import type { Catalog, MarkRow } from "./catalog/catalog.ts";
import type { Caller, MarkInfo, RetentionPolicy } from "./engine.ts";
import { markInfo } from "./timeline/points.ts";
import { checkPolicy } from "./timeline/retention.ts";
import type { JournalText } from "./volume/journal_text.ts";
import { checkName, type Volumes } from "./volumes.ts";

/** What people write about volumes and their moments. */
export class Marks {
  readonly #volumes: Volumes;
  readonly #catalog: Catalog;
  readonly #access: Access;
  readonly #creating = new Set<string>();

  /** Works on `volumes`, keeping with `catalog` and auditing to `access`. */
  constructor(volumes: Volumes, catalog: Catalog, access: Access) {
    this.#volumes = volumes;
    this.#catalog = catalog;
    this.#access = access;
  }

  /** Marks of a volume, oldest first. */
  list(name: string): MarkInfo[] {
    return this.#catalog.marks(this.#volumes.entry(name).row.id).map(markInfo);
  }

  #mark(name: string, mark: string): MarkRow {
    const found = this.#catalog.mark(this.#volumes.entry(name).row.id, mark);
    if (found === undefined) {
      throw new VarveError("not-found", `find mark ${mark} of volume ${name}: there is none`, {
        field: "name",
      });
    }
    return found;
  }

  /** Names the present moment; the mark is durable when this resolves. */
  async create(
    name: string,
    request: { name: string; note?: string; pinned?: boolean },
    caller: Caller,
  ): Promise<MarkInfo> {
    const { row } = this.#volumes.entry(name);
    const { live } = this.#volumes.open(name);
    checkName(`mark ${request.name}`, request.name);
    const key = `${row.id}/${request.name}`;
    if (this.#catalog.mark(row.id, request.name) !== undefined || this.#creating.has(key)) {
      throw new VarveError("conflict", `mark ${request.name}: the volume has a mark of that name`, {
        field: "name",
      });
    }
    this.#creating.add(key);
    try {
      const pinned = request.pinned ?? false;
      const note = request.note === undefined ? {} : { note: request.note };
      // First the journal, then the catalogue: a crash in between is made good at the next start.
      const { told, ...moment } = await live.mark(
        JSON.stringify({ type: "mark", name: request.name, pinned, ...note } satisfies JournalText),
      );
      const mark: MarkRow = { name: request.name, ...moment, pinned, note: request.note };
      this.#catalog.transaction(() => {
        this.#catalog.putMark(row.id, mark);
        this.#access.record(caller, "mark.create", name, { mark: mark.name, seq: mark.seq, pinned });
      });
      told();
      return markInfo(mark);
    } finally {
      this.#creating.delete(key);
    }
  }

  /** Changes what may change about a mark. */
  async update(
    name: string,
    mark: string,
    change: { note?: string; pinned?: boolean },
    caller: Caller,
  ): Promise<MarkInfo> {
    const before = this.#mark(name, mark);
    const volume = this.#volumes.open(name);
    // A prune may have thinned its moment away, and is about to tell the catalogue.
    if (!volume.marks.some((known) => known.name === mark)) {
      throw new VarveError(
        "not-found",
        `change mark ${mark} of volume ${name}: retention has just dropped it`,
        {
          field: "name",
        },
      );
    }
    const after: MarkRow = {
      ...before,
      pinned: change.pinned ?? before.pinned,
      note: change.note ?? before.note,
    };
    const told = await volume.live.describe(JSON.stringify(
      {
        type: "mark-changed",
        name: mark,
        pinned: after.pinned,
        ...(after.note === undefined ? {} : { note: after.note }),
      } satisfies JournalText,
    ));
    this.#catalog.transaction(() => {
      this.#catalog.putMark(this.#volumes.entry(name).row.id, after);
      this.#access.record(caller, "mark.update", name, {
        mark,
        before: markInfo(before),
        after: markInfo(after),
      });
    });
    told();
    return markInfo(after);
  }

  /** Takes a name away; the moment itself stays until retention drops it. */
  async delete(name: string, mark: string, caller: Caller): Promise<void> {
    const before = this.#mark(name, mark);
    const told = await this.#volumes.open(name).live.describe(
      JSON.stringify({ type: "mark-deleted", name: mark } satisfies JournalText),
    );
    this.#catalog.transaction(() => {
      this.#catalog.removeMark(this.#volumes.entry(name).row.id, mark);
      this.#access.record(caller, "mark.delete", name, { mark, seq: before.seq });
    });
    told();
  }

  /** The policy in force. */
  policy(name: string): RetentionPolicy {
    return JSON.parse(this.#volumes.entry(name).row.policy) as RetentionPolicy;
  }

  /** Replaces the policy. Nothing is dropped until the next prune. */
  async setPolicy(name: string, policy: RetentionPolicy, caller: Caller): Promise<RetentionPolicy> {
    checkPolicy(policy);
    const entry = this.#volumes.entry(name);
    const before = this.policy(name);
    const told = await this.#volumes.open(name).live.describe(
      JSON.stringify({ type: "policy", policy } satisfies JournalText),
    );
    this.#catalog.transaction(() => {
      this.#catalog.setPolicy(entry.row.id, JSON.stringify(policy));
      this.#access.record(caller, "retention.set", name, { before, after: policy });
    });
    told();
    entry.row = { ...entry.row, policy: JSON.stringify(policy) };
    return policy;
  }
}

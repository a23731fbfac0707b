/**
 * Who may use the appliance, and what they did: tokens and the audit log.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import path from "node:path";
import type { Clock } from "./base/clock.ts";
import { toHex } from "./base/bytes.ts";
import { VarveError } from "./base/errors.ts";
import { type RandomSource, systemRandom } from "./base/random.ts";
import { formatTime } from "./base/time.ts";
import type { Catalog, TokenRow } from "./catalog/catalog.ts";
import { type Disk, FileDisk } from "./disk/mod.ts";
import type { AuditEntry, Caller, TokenInfo, TokenScope } from "./engine.ts";

const AUDIT_LIMIT = 100;
const AUDIT_LIMIT_MAX = 10_000;

/** Tokens and the audit log. Secrets are random and kept only as SHA-256. */
export class Access {
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #random: RandomSource;
  readonly #disk: Disk;

  /** Works on `catalog`; the first token goes to `disk`. */
  constructor(parts: { catalog: Catalog; clock: Clock; random?: RandomSource; disk?: Disk }) {
    this.#catalog = parts.catalog;
    this.#clock = parts.clock;
    this.#random = parts.random ?? systemRandom;
    this.#disk = parts.disk ?? new FileDisk();
  }

  #newSecret(): string {
    return `varve_${Buffer.from(this.#random(32)).toString("base64url")}`;
  }

  /** Makes the first administrator's token and writes it to `DATA/admin.token`, unless there are tokens already. */
  async ensureAdministrator(dataPath: string): Promise<void> {
    if (this.#catalog.tokens().length > 0) return;
    const token = this.#newSecret();
    const place = path.join(dataPath, "admin.token");
    // The file first, durably: a token that the catalogue knows and nobody has ever seen would lock everybody out.
    this.#disk.remove(place);
    const file = this.#disk.open(place, { mode: "create-new" });
    try {
      file.write(0, new TextEncoder().encode(`${token}\n`));
      await file.sync();
    } finally {
      file.close();
    }
    await this.#disk.syncDirectory(dataPath);
    this.#add(token, { name: "admin", scopes: ["admin"] }, { name: "varve" });
  }

  /** Makes a token; the secret is told only here. */
  create(request: { name: string; scopes: TokenScope[] }, caller: Caller): TokenInfo & { token: string } {
    if (this.#catalog.tokens().some((token) => token.name === request.name)) {
      throw new VarveError("conflict", `create token ${request.name}: there is one of that name`, {
        field: "name",
      });
    }
    const token = this.#newSecret();
    return { ...this.#add(token, request, caller), token };
  }

  #add(token: string, request: { name: string; scopes: TokenScope[] }, caller: Caller): TokenInfo {
    const row: TokenRow = {
      id: toHex(this.#random(8)),
      name: request.name,
      scopes: JSON.stringify(request.scopes),
      createdUs: this.#clock.nowUs(),
    };
    this.#catalog.transaction(() => {
      this.#catalog.addToken(row, sha256(token));
      this.record(caller, "token.create", request.name, { id: row.id, scopes: request.scopes });
    });
    return tokenInfo(row);
  }

  /** Tokens without secrets. */
  list(): TokenInfo[] {
    return this.#catalog.tokens().map(tokenInfo);
  }

  /** Takes a token back. */
  revoke(id: string, caller: Caller): void {
    this.#catalog.transaction(() => {
      if (!this.#catalog.removeToken(id)) {
        throw new VarveError("not-found", `revoke token ${id}: there is none`, { field: "id" });
      }
      this.record(caller, "token.revoke", id, {});
    });
  }

  /** The token a secret belongs to. */
  authenticate(secret: string): TokenInfo | undefined {
    const row = this.#catalog.tokenBySecret(sha256(secret));
    return row === undefined ? undefined : tokenInfo(row);
  }

  /** Adds a line to the audit log. */
  record(caller: Caller, action: string, subject: string, details: Record<string, unknown>): void {
    this.#catalog.addAudit({
      timeUs: this.#clock.nowUs(),
      actor: caller.name,
      action,
      subject,
      details: JSON.stringify(details),
    });
  }

  /** The newest lines of the audit log. */
  audit(limit = AUDIT_LIMIT): AuditEntry[] {
    return this.#catalog.audit(Math.max(0, Math.min(limit, AUDIT_LIMIT_MAX))).map((row) => ({
      id: row.id,
      time: formatTime(row.timeUs, 3),
      actor: row.actor,
      action: row.action,
      subject: row.subject,
      details: JSON.parse(row.details) as Record<string, unknown>,
    }));
  }
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function tokenInfo(row: TokenRow): TokenInfo {
  return {
    id: row.id,
    name: row.name,
    scopes: JSON.parse(row.scopes) as TokenScope[],
    createdAt: formatTime(row.createdUs, 3),
  };
}

/**
 * Metadata contexts in the handshake: which of them a client's queries mean.
 *
 * A name is a name space, a colon, and anything, colons and spaces included. A query is a name, or ends in a colon and
 * means every listed name that begins with it. The protocol wants `base:` to select nothing.
 *
 * @module
 */
import { allocationMap, type StatusContext } from "./block_status.ts";
import type { HeldExport } from "./_held_exports.ts";
import { Refusal } from "./_option_refusal.ts";
import { BASE_ALLOCATION, Rep } from "./protocol.ts";

/** Contexts of a connection at most. */
export const MAX_CONTEXTS = 16;
/** Queries of an option at most. */
export const MAX_QUERIES = 64;

const BASE_WILDCARD = "base:";

/** Names of the contexts of an export that queries mean, each once; without queries all that are listed. */
export async function listContexts(held: HeldExport, queries: readonly string[]): Promise<string[]> {
  const all = [BASE_ALLOCATION, ...await held.listMaps()];
  if (queries.length === 0) return all;
  const found = new Set<string>();
  for (const query of queries) for (const name of await namesOf(held, query, all)) found.add(name);
  return [...found];
}

/**
 * Contexts of an export that queries select; without queries none. Throws a refusal when they are more
 * than {@linkcode MAX_CONTEXTS}, and as `ExportMaps.open`.
 */
export async function selectContexts(held: HeldExport, queries: readonly string[]): Promise<StatusContext[]> {
  const selecting = queries.filter((query) => query !== BASE_WILDCARD);
  if (selecting.length === 0) return [];
  const names = await listContexts(held, selecting);
  if (names.length > MAX_CONTEXTS) {
    throw new Refusal(
      Rep.ERR_TOO_BIG,
      `select metadata contexts of "${held.name}": ${names.length} are more than ${MAX_CONTEXTS}`,
    );
  }
  const contexts: StatusContext[] = [];
  for (const name of names) {
    const map = name === BASE_ALLOCATION ? allocationMap(held.opened.device) : await held.openMap(name);
    if (map !== undefined) contexts.push({ id: contexts.length + 1, name, map });
  }
  return contexts;
}

async function namesOf(held: HeldExport, query: string, all: readonly string[]): Promise<string[]> {
  if (query.endsWith(":")) return all.filter((name) => name.startsWith(query));
  if (all.includes(query)) return [query];
  const isForeign = !query.includes(":") || query.startsWith(BASE_WILDCARD);
  return !isForeign && await held.openMap(query) !== undefined ? [query] : [];
}

/** Exports that are open during a handshake. */
import { VarveError } from "../base/errors.ts";
import type { ClientInfo, ExportMap, ExportProvider, OpenExport } from "./exports.ts";

/** Maps of an export that are kept once they were opened. */
const MAX_KEPT_MAPS = 64;

/** An export and what was opened of it. */
export class HeldExport {
  /** The name that it was opened by. */
  readonly name: string;
  /** The export. */
  readonly opened: OpenExport;
  readonly #maps = new Map<string, ExportMap | undefined>();

  constructor(name: string, opened: OpenExport) {
    this.name = name;
    this.opened = opened;
  }

  /** Names of maps to list. */
  async listMaps(): Promise<string[]> {
    return await this.opened.maps?.list() ?? [];
  }

  /** A map by its exact name; asked for again, it is the same, so that a relative time in a name means one moment. */
  async openMap(name: string): Promise<ExportMap | undefined> {
    if (this.#maps.has(name)) return this.#maps.get(name);
    const map = await this.opened.maps?.open(name);
    if (this.#maps.size < MAX_KEPT_MAPS) this.#maps.set(name, map);
    return map;
  }
}

/**
 * Opens exports, and keeps open the one that was asked for last and the one whose metadata contexts are selected: a
 * name with a relative time must not mean two moments, and what INFO has told must hold for GO.
 */
export class HeldExports {
  readonly #exports: ExportProvider;
  readonly #onProblem: (error: VarveError) => void;
  readonly #held = new Set<HeldExport>();

  constructor(exports: ExportProvider, onProblem: (error: VarveError) => void) {
    this.#exports = exports;
    this.#onProblem = onProblem;
  }

  /** The export of that name, opened unless it is held already; `undefined` when there is none. Throws as the provider. */
  async open(name: string, client: ClientInfo): Promise<HeldExport | undefined> {
    for (const held of this.#held) if (held.name === name) return held;
    const opened = await this.#exports.open(name, client);
    if (opened === undefined) return undefined;
    const held = new HeldExport(name, opened);
    this.#held.add(held);
    return held;
  }

  /** Closes all but some. */
  async keepOnly(...kept: (HeldExport | undefined)[]): Promise<void> {
    for (const held of this.#held) {
      if (kept.includes(held)) continue;
      this.#held.delete(held);
      await closeExport(held.opened, this.#onProblem);
    }
  }

  /** Hands an export over: from now on the caller closes it. */
  take(held: HeldExport): OpenExport {
    this.#held.delete(held);
    return held.opened;
  }
}

/** Closes an export; a failure to do so goes to `onProblem`. */
export async function closeExport(opened: OpenExport, onProblem: (error: VarveError) => void): Promise<void> {
  try {
    await opened.close();
  } catch (thrown) {
    onProblem(VarveError.from(thrown, "close an export"));
  }
}

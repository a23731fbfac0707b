/**
 * Volumes, their past and clones as NBD exports: `VOLUME`, `VOLUME@TIME` and `CLONE`.
 *
 * @module
 */
import { VarveError } from "./base/errors.ts";
import { ChangeMaps } from "./change_maps.ts";
import { formatSize } from "./base/units.ts";
import type { Moment } from "./engine.ts";
import type { ClientInfo, ExportEntry, ExportProvider, OpenExport } from "./nbd/mod.ts";
import type { Volume } from "./volume/volume.ts";

/** What the exports are made from. */
export interface ExportSource {
  /** Names of all volumes, sorted. */
  names(): string[];
  /** A volume; throws when it cannot be used. */
  find(name: string): Volume | undefined;
  /** The moment that a text of the time grammar names. */
  resolve(name: string, at: string): Promise<Moment>;
  /** Marks of a volume, oldest first. */
  marks(name: string): readonly { readonly name: string; readonly seq: number }[];
  /** Clones: their entries, and how one is opened. They share one name space with the volumes. */
  readonly clones: {
    list(): ExportEntry[];
    open(name: string): Promise<Omit<OpenExport, "client"> | undefined>;
  };
}

/** Opens exports and counts their connections. */
export class VolumeExports implements ExportProvider {
  readonly #source: ExportSource;
  readonly #connections = new Map<string, number>();
  /** Connections to the past and to clones so far: no journal has commands of theirs. */
  #untold = 0;

  /** Exports of `source`. */
  constructor(source: ExportSource) {
    this.#source = source;
  }

  /** Connections to a volume, live and past. */
  connections(volume: string): number {
    return this.#connections.get(volume) ?? 0;
  }

  list(): ExportEntry[] {
    const volumes = this.#source.names().map((name) => ({
      name,
      description: "live volume, every write is kept",
    }));
    return [...volumes, ...this.#source.clones.list()];
  }

  async open(name: string, client: ClientInfo): Promise<OpenExport | undefined> {
    const at = name.indexOf("@");
    const volumeName = at < 0 ? name : name.slice(0, at);
    const volume = this.#source.find(volumeName);
    if (volume === undefined) {
      const clone = await this.#source.clones.open(name);
      return clone === undefined ? undefined : { ...clone, client: ++this.#untold };
    }
    if (at < 0) {
      const { live } = volume;
      const number = live.admit(client);
      return this.#opened(volumeName, {
        device: live,
        description: `${name}: live volume of ${formatSize(live.sizeBytes)}`,
        client: number,
        maps: this.#maps(volumeName, volume),
        close: () => live.connections.dismiss(number),
      });
    }
    const expression = name.slice(at + 1);
    if (expression === "") throw new VarveError("invalid", `open ${name}: there is no time behind the @`);
    const moment = await this.#source.resolve(volumeName, expression);
    const device = await volume.view(moment.seq);
    // It may have been deleted meanwhile.
    if (this.#source.find(volumeName) !== volume) return undefined;
    return this.#opened(volumeName, {
      device,
      description: `${volumeName} as of ${moment.time}, sequence ${moment.seq}`,
      client: ++this.#untold,
      maps: this.#maps(volumeName, volume, moment),
      close: () => {},
    });
  }

  #maps(name: string, volume: Volume, moment?: Moment): ChangeMaps {
    return new ChangeMaps({
      volume,
      moment,
      marks: () => this.#source.marks(name),
      resolve: (at) => this.#source.resolve(name, at),
    });
  }

  #opened(volume: string, opened: OpenExport): OpenExport {
    this.#connections.set(volume, this.connections(volume) + 1);
    return {
      ...opened,
      close: () => {
        this.#connections.set(volume, this.connections(volume) - 1);
        return opened.close();
      },
    };
  }
}

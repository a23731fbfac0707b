/**
 * The logical volumes of an LVM2 volume group, as far as they lie on one physical volume.
 *
 * A volume whose segments are all linear (striped over one) and all lie here is a list of pieces. Every other kind is
 * told with its name and a reason. Source: the metadata text of lvm2, and lvmcache(7), lvmthin(7), lvmraid(7).
 *
 * @module
 */
import type { BlockDevice } from "../../base/block_device.ts";
import { damaged } from "../_bytes.ts";
import type { DiskPiece } from "../guest.ts";
import { type ConfigSection, type ConfigValue, parseConfig } from "./config_text.ts";
import { type PhysicalVolume, readPhysicalVolume } from "./physical_volume.ts";

/** One logical volume. */
export interface LogicalVolume {
  /** Its name, without that of its group; empty for the physical volume itself when it has nothing to offer. */
  readonly name: string;
  /** Where it lies on the physical volume's device; empty when `reason` is set. */
  readonly pieces: readonly DiskPiece[];
  /** Why it cannot be read from here, as a sentence for people. */
  readonly reason: string | undefined;
}

const SECTOR_BYTES = 512;
const VOLUMES_MAX = 4096;
/** Pieces of all volumes together. */
const SEGMENTS_MAX = 1_000_000;
const NAME = /^[A-Za-z0-9+_.-]{1,127}$/;
const IMAGE = "the image of the disk can still be used";

/** What the kinds of segments are called, where that is not their own name. */
const KINDS: Readonly<Record<string, string>> = {
  "mirror": "a mirror",
  "snapshot": "a snapshot",
  "thin": "a thin volume",
  "thin-pool": "a thin pool",
  "cache": "a cached volume",
  "cache-pool": "a cache pool",
  "writecache": "a volume with a write cache",
  "vdo": "a VDO volume",
  "vdo-pool": "a VDO pool",
  "error": "a volume of errors",
  "zero": "a volume of zeroes",
};

/**
 * The logical volumes on a device, or `undefined` when it is no physical volume. There is always at least one entry:
 * a physical volume without any is one nameless entry with its reason. Throws `damaged` when its metadata are.
 */
export function findLogicalVolumes(device: BlockDevice): LogicalVolume[] | undefined {
  const physical = readPhysicalVolume(device);
  if (physical === undefined) return undefined;
  if (physical.metadata === undefined) {
    const found = physical.keepsMetadata
      ? "that belongs to no volume group yet"
      : "whose volume group is described on other disks only";
    return [nothing(`it holds an LVM2 physical volume ${found}; ${IMAGE}`)];
  }
  const volumes = new VolumeGroup(physical, physical.metadata, device.sizeBytes).volumes();
  return volumes.length > 0
    ? volumes
    : [nothing(`it holds an LVM2 physical volume without logical volumes; ${IMAGE}`)];
}

function nothing(reason: string): LogicalVolume {
  return { name: "", pieces: [], reason };
}

function fail(found: string): Error {
  return damaged("reading the LVM2 metadata", found);
}

class VolumeGroup {
  readonly #section: ConfigSection;
  readonly #deviceBytes: number;
  /** What the text calls this physical volume, such as `pv0`. */
  readonly #own: string;
  readonly #physicals: ConfigSection;
  readonly #logicals: ConfigSection;
  readonly #extentBytes: number;
  readonly #dataOffset: number;
  readonly #extents: number;
  #segments = 0;

  constructor(physical: PhysicalVolume, metadata: string, deviceBytes: number) {
    const group = [...parseConfig(metadata).values()].find((value) => value instanceof Map);
    if (!(group instanceof Map)) throw fail("no volume group");
    this.#section = group;
    this.#deviceBytes = deviceBytes;
    this.#physicals = sectionOf(group, "physical_volumes");
    this.#logicals = sectionOf(group, "logical_volumes");
    const own = [...this.#physicals].find(([, each]) =>
      each instanceof Map && String(each.get("id")).replaceAll("-", "") === physical.id
    );
    if (own === undefined) throw fail(`its group does not know the physical volume ${physical.id}`);
    this.#own = own[0];
    const described = sectionOf(this.#physicals, own[0]);
    this.#extentBytes = numberOf(this.#section, "extent_size") * SECTOR_BYTES;
    this.#dataOffset = numberOf(described, "pe_start") * SECTOR_BYTES;
    this.#extents = numberOf(described, "pe_count");
    if (this.#extentBytes === 0 || !Number.isSafeInteger(this.#extents * this.#extentBytes)) {
      throw fail(`${this.#extents} extents of ${this.#extentBytes} bytes`);
    }
  }

  volumes(): LogicalVolume[] {
    const stores = this.#snapshotStores();
    const volumes: LogicalVolume[] = [];
    for (const [name, logical] of this.#logicals) {
      if (!NAME.test(name) || name === "." || name === "..") {
        throw fail("a logical volume of an impossible name");
      }
      if (!(logical instanceof Map)) throw fail(`logical volume ${name} is no section`);
      if (!listOf(logical, "status").includes("VISIBLE")) continue;
      if (volumes.length === VOLUMES_MAX) throw fail(`more than ${VOLUMES_MAX} logical volumes`);
      const reason = stores.get(name);
      volumes.push(reason === undefined ? this.#volume(name, logical) : { name, pieces: [], reason });
    }
    return volumes;
  }

  /** The names of the volumes that hold the differences of a snapshot, or are being merged with them, and why not. */
  #snapshotStores(): Map<string, string> {
    const stores = new Map<string, string>();
    for (const [name, logical] of this.#logicals) {
      if (!(logical instanceof Map)) continue;
      for (const segment of segmentsOf(name, logical)) {
        const [store, merging] = [segment.get("cow_store"), segment.get("merging_store")];
        const origin = segment.get("origin");
        if (typeof store === "string") stores.set(store, unreadable("a snapshot"));
        if (typeof merging !== "string") continue;
        stores.set(merging, unreadable("a snapshot that is being merged"));
        if (typeof origin === "string") {
          stores.set(origin, unreadable("a volume that a snapshot is being merged into"));
        }
      }
    }
    return stores;
  }

  #volume(name: string, logical: ConfigSection): LogicalVolume {
    const pieces: DiskPiece[] = [];
    let next = 0;
    for (const segment of segmentsOf(name, logical)) {
      if (++this.#segments > SEGMENTS_MAX) throw fail(`more than ${SEGMENTS_MAX} segments`);
      const count = numberOf(segment, "extent_count");
      if (numberOf(segment, "start_extent") !== next || count === 0) {
        throw fail(`logical volume ${name} has a gap at extent ${next}`);
      }
      next += count;
      const found = this.#piece(segment, count);
      if (typeof found === "string") return { name, pieces: [], reason: found };
      const last = pieces.at(-1);
      if (last !== undefined && last.offset + last.length === found.offset) {
        pieces[pieces.length - 1] = { offset: last.offset, length: last.length + found.length };
      } else pieces.push(found);
    }
    if (pieces.length === 0) throw fail(`logical volume ${name} has no segments`);
    return { name, pieces, reason: undefined };
  }

  /** Where a segment lies, or why it cannot be read from here. */
  #piece(segment: ConfigSection, count: number): DiskPiece | string {
    const type = String(segment.get("type")).split("+")[0] ?? "";
    if (type !== "striped" && type !== "linear") {
      const what = Object.hasOwn(KINDS, type) ? KINDS[type] : undefined;
      return unreadable(
        what ??
          (type.startsWith("raid") ? `a ${type} volume` : `of the kind ${JSON.stringify(type.slice(0, 40))}`),
      );
    }
    const stripes = listOf(segment, "stripes");
    if (numberOf(segment, "stripe_count") !== 1) {
      return unreadable(`striped over ${stripes.length / 2} places`);
    }
    const [place, first] = stripes;
    if (stripes.length !== 2 || typeof place !== "string" || typeof first !== "number") {
      throw fail("a bad stripe");
    }
    if (this.#logicals.has(place)) return unreadable("being moved between physical volumes");
    if (!this.#physicals.has(place)) {
      throw fail(`a segment on ${JSON.stringify(place.slice(0, 40))}, which is not in the group`);
    }
    if (place !== this.#own) {
      return "it lies, at least in part, on another physical volume of its LVM2 group; " +
        "attach the images of all disks of the group and activate it";
    }
    if (!(Number.isSafeInteger(first) && first >= 0 && first + count <= this.#extents)) {
      throw fail(`extents ${first} to ${first + count} of ${this.#extents}`);
    }
    const offset = this.#dataOffset + first * this.#extentBytes;
    const length = count * this.#extentBytes;
    return offset + length <= this.#deviceBytes
      ? { offset, length }
      : "it reaches beyond the end of its LVM2 physical volume";
  }
}

function unreadable(what: string): string {
  return `it is an LVM2 logical volume, ${what}, which Varve cannot browse; ${IMAGE}: attach it and activate the group`;
}

/** The segments in their order. */
function* segmentsOf(name: string, logical: ConfigSection): Generator<ConfigSection> {
  const count = numberOf(logical, "segment_count");
  for (let number = 1; number <= count; number++) {
    const segment = logical.get(`segment${number}`);
    if (!(segment instanceof Map)) {
      throw fail(`segment ${number} of logical volume ${name.slice(0, 128)} is missing`);
    }
    yield segment;
  }
}

function sectionOf(section: ConfigSection, name: string): ConfigSection {
  const value = section.get(name);
  return value instanceof Map ? value : EMPTY;
}

const EMPTY: ConfigSection = new Map<string, ConfigValue>();

function numberOf(section: ConfigSection, name: string): number {
  const value = section.get(name);
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw fail(`${name} is no number`);
  }
  return value;
}

function listOf(section: ConfigSection, name: string): readonly (number | string)[] {
  const value = section.get(name);
  return Array.isArray(value) ? value : [];
}

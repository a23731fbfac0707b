/**
 * The raw volume at a moment, as one sparse file.
 *
 * @module
 */
import { type Awaitable, chain } from "../src/base/awaitable.ts";
import type { BlockDevice } from "../src/base/block_device.ts";
import type { Attributes, FileNode, OpenFile } from "./filesystem.ts";
import type { Lru } from "../src/base/lru.ts";
import { momentKey, type MomentStore, type PastMoment } from "./moment_store.ts";
import { FOREVER_SECONDS, ownAttributes } from "./virtual.ts";

/** How much of a device is asked for its extents at a time. */
const EXTENT_WINDOW_BYTES = 1024 ** 3;

/** An image: only root may read it, for it goes around the guest's permissions. */
export class ImageFile implements FileNode {
  readonly kind = "file";
  readonly attributeSeconds: number = FOREVER_SECONDS;
  readonly key: string;
  readonly #moment: PastMoment;
  readonly #moments: MomentStore;
  readonly #known: Lru<Attributes>;

  /** `known` keeps attributes by moment: counting the blocks of an image walks its whole map. */
  constructor(moment: PastMoment, moments: MomentStore, known: Lru<Attributes>) {
    this.#moment = moment;
    this.#moments = moments;
    this.#known = known;
    this.key = `${momentKey(moment)}\0image`;
  }

  /** Size of the disk, and the space that its data takes. */
  attributes(): Awaitable<Attributes> {
    const known = this.#known.get(this.key);
    if (known !== undefined) return known;
    return this.#moments.use(this.#moment, ({ device }) => {
      const attributes = {
        ...ownAttributes(this.key, {
          type: "file",
          mode: 0o400,
          sizeBytes: device.sizeBytes,
          timeNs: this.#moment.timeNs,
        }),
        blocks512: Math.ceil(dataBytes(device) / 512),
      };
      this.#known.set(this.key, attributes);
      return attributes;
    });
  }

  /** Opens the moment, so that a thinned one is refused here rather than at the first read. */
  open(): Awaitable<OpenFile> {
    return chain(this.#moments.use(this.#moment, () => {}), (): OpenFile => ({
      caching: "keep",
      read: (offset, target) =>
        this.#moments.use(this.#moment, ({ device }) => {
          const length = Math.max(0, Math.min(target.length, device.sizeBytes - offset));
          if (length > 0) device.read(offset, target.subarray(0, length));
          return length;
        }),
      seek: (offset, kind) =>
        this.#moments.use(this.#moment, ({ device }) => seekDevice(device, offset, kind)),
    }));
  }
}

function* windows(device: BlockDevice, from: number): Generator<{ offset: number; length: number }> {
  for (let offset = from; offset < device.sizeBytes; offset += EXTENT_WINDOW_BYTES) {
    yield { offset, length: Math.min(EXTENT_WINDOW_BYTES, device.sizeBytes - offset) };
  }
}

function dataBytes(device: BlockDevice): number {
  let sum = 0;
  for (const { offset, length } of windows(device, 0)) {
    for (const extent of device.extents(offset, length)) {
      if (extent.kind === "data") sum += extent.length;
    }
  }
  return sum;
}

/** As `lseek`: the first offset of that kind, where the end counts as a hole; `undefined` at or beyond the end. */
export function seekDevice(device: BlockDevice, from: number, kind: "data" | "hole"): number | undefined {
  if (from >= device.sizeBytes) return undefined;
  for (const { offset, length } of windows(device, from)) {
    const found = device.extents(offset, length).find((extent) => extent.kind === kind);
    if (found !== undefined) return found.offset;
  }
  return kind === "hole" ? device.sizeBytes : undefined;
}

/**
 * The parts of the tree that no guest owns: folders and texts made by Varve.
 *
 * @module
 */
import { type Awaitable, chain } from "../src/base/awaitable.ts";
import { createHash } from "node:crypto";
import type { GuestFileType } from "../src/guestfs/guest.ts";
import type { Attributes, DirectoryNode, FileNode, Found, ListedName, Node, OpenFile } from "./filesystem.ts";

/** How long the kernel may keep what can never change, in seconds. */
export const FOREVER_SECONDS = 86_400;

const OWNER = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0 };

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes of a name. */
export function nameBytes(name: string): Uint8Array {
  return encoder.encode(name);
}

/** A name as text; `undefined` when it is not UTF-8, and then it is none of ours. */
export function nameText(name: Uint8Array): string | undefined {
  try {
    return decoder.decode(name);
  } catch {
    return undefined;
  }
}

/** A 64-bit number drawn from a key, the same at every mount. The top bit is set, so that it is never small. */
export function inodeOf(key: string): bigint {
  return createHash("sha256").update(key).digest().readBigUInt64LE() | (1n << 63n);
}

/** RFC 3339 as nanoseconds since 1970, to the microsecond. */
export function nanosecondsOf(time: string): bigint {
  const microseconds = /\.\d{3}(\d{1,3})/.exec(time)?.[1]?.padEnd(3, "0") ?? "0";
  return BigInt(Date.parse(time)) * 1_000_000n + BigInt(microseconds) * 1_000n;
}

/** Attributes of something that belongs to whoever runs the appliance, and has one time. */
export function ownAttributes(
  key: string,
  { type, mode, sizeBytes = 0, timeNs }: {
    type: GuestFileType;
    mode: number;
    sizeBytes?: number;
    timeNs: bigint;
  },
): Attributes {
  return {
    inode: inodeOf(key),
    type,
    mode,
    uid: OWNER.uid,
    gid: OWNER.gid,
    links: type === "directory" ? 2 : 1,
    sizeBytes,
    blocks512: Math.ceil(sizeBytes / 512),
    rdev: 0,
    accessedNs: timeNs,
    modifiedNs: timeNs,
    changedNs: timeNs,
  };
}

/** Completes the look-up of a node. */
export function foundNode(node: Node, nameSeconds: number): Awaitable<Found> {
  return chain(node.attributes(), (attributes) => ({ node, attributes, nameSeconds }));
}

/** A folder whose names are known from the start. */
export class FixedDirectory implements DirectoryNode {
  readonly kind = "directory";
  readonly attributeSeconds: number = FOREVER_SECONDS;
  readonly key: string;
  readonly immutable: boolean;
  readonly #timeNs: bigint;
  readonly #children: ReadonlyMap<string, Node>;

  /** `immutable` also promises that nothing below ever changes. */
  constructor(key: string, options: { immutable: boolean; timeNs: bigint; children: Record<string, Node> }) {
    this.key = key;
    this.immutable = options.immutable;
    this.#timeNs = options.timeNs;
    this.#children = new Map(Object.entries(options.children));
  }

  /** As for every folder of Varve's own. */
  attributes(): Attributes {
    return ownAttributes(this.key, { type: "directory", mode: 0o755, timeNs: this.#timeNs });
  }

  /** Finds a child. */
  lookup(name: Uint8Array): Awaitable<Found | undefined> {
    const child = this.#children.get(nameText(name) ?? "");
    return child === undefined ? undefined : foundNode(child, FOREVER_SECONDS);
  }

  /** All children, in the order given. */
  list(): ListedName[] {
    return [...this.#children].map(([name, node]) => ({
      name: nameBytes(name),
      inode: undefined,
      type: node.kind === "special" ? undefined : node.kind,
    }));
  }
}

/** A text made when it is opened, and then the same for that opener. */
export class TextFile implements FileNode {
  readonly kind = "file";
  readonly attributeSeconds = 0;
  readonly key: string;
  readonly #timeNs: bigint;
  readonly #text: () => Awaitable<string>;

  constructor(key: string, timeNs: bigint, text: () => Awaitable<string>) {
    this.key = key;
    this.#timeNs = timeNs;
    this.#text = text;
  }

  /** Readable by everybody; the size is that of the text as it would be now. */
  attributes(): Awaitable<Attributes> {
    return chain(this.#text(), (text) =>
      ownAttributes(this.key, {
        type: "file",
        mode: 0o444,
        sizeBytes: encoder.encode(text).length,
        timeNs: this.#timeNs,
      }));
  }

  /** Makes the text. */
  open(): Awaitable<OpenFile> {
    return chain(this.#text(), (text): OpenFile => {
      const bytes = encoder.encode(text);
      return {
        caching: "direct",
        read(offset, target) {
          const piece = bytes.subarray(offset, offset + target.length);
          target.set(piece);
          return piece.length;
        },
        seek: (offset, kind) => offset >= bytes.length ? undefined : kind === "data" ? offset : bytes.length,
      };
    });
  }
}

/**
 * Directories: every name, or the file behind one name.
 *
 * A directory is a B-tree of names in the order of {@linkcode Upcase.collate}. Its root lies in the record; the other nodes are blocks
 * of the index allocation, known by the cluster (or, where clusters are larger than blocks, the 512 bytes) that they begin with.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged, u32, u64 } from "../_bytes.ts";
import type { GuestEntry, GuestFileType } from "../guest.ts";
import { applyFixups } from "./fixups.ts";
import { ATTRIBUTE, FILE_FLAG, FIXUP_STRIDE_BYTES, NAME_INDEX, NAMESPACE_DOS, RECORD } from "./format.ts";
import { type IndexKey, type IndexNode, parseIndexNode } from "./index_node.ts";
import type { NtfsInode } from "./inode.ts";
import { decodeName, encodeName } from "./names.ts";
import type { NtfsVolume } from "./volume.ts";

/** Names that one directory may have here; listing more would need more memory than a view should take. */
const ENTRIES_MAX = 10_000_000;
/** Levels of a tree; with the smallest blocks each multiplies the names by at least two. */
const DEPTH_MAX = 32;
const BLOCK_BYTES_MAX = 65_536;
const ROOT_HEADER = 0x10;
const BLOCK_HEADER = 0x18;
/** What a parsed node weighs for each byte of its block. */
const NODE_WEIGHT = 4;

/** Every name of a directory in the order of its tree, without 8.3 names that have a long one, and without the files of NTFS. */
export function listDirectory(volume: NtfsVolume, directory: NtfsInode): GuestEntry[] {
  const tree = new NameTree(volume, directory);
  const entries: GuestEntry[] = [];
  const seen = new Set<number>();
  const visit = (node: IndexNode, depth: number) => {
    for (const { child, key } of node.entries) {
      if (child !== undefined) {
        if (depth === DEPTH_MAX || seen.has(child)) throw tree.damaged(`node ${child} occurs twice`);
        seen.add(child);
        visit(tree.node(child), depth + 1);
      }
      if (key === undefined || key.namespace === NAMESPACE_DOS || isHidden(key)) continue;
      if (entries.length === ENTRIES_MAX) {
        throw new VarveError("unsupported", `listing directory ${directory.number}: too many names`);
      }
      entries.push({ name: checkedName(tree, key), inode: key.reference.record, type: typeOf(key) });
    }
  };
  visit(tree.root(), 1);
  return entries;
}

/**
 * The file behind a name: the same name if there is one, else one that differs in case alone, as Windows finds it; 8.3 names lead to
 * their files too.
 */
export function findInDirectory(
  volume: NtfsVolume,
  directory: NtfsInode,
  wanted: string,
): IndexKey | undefined {
  const tree = new NameTree(volume, directory);
  const { upcase } = volume;
  const exact = tree.find((name) => upcase.collate(wanted, name));
  const found = exact ?? tree.find((name) => upcase.compare(wanted, name));
  if (found === undefined || isHidden(found)) return undefined;
  if (!volume.holds(found.reference)) {
    throw damaged(
      `reading directory ${directory.number}`,
      `a name leads to file ${found.reference.record}, which was deleted`,
    );
  }
  return found;
}

/** As {@linkcode findInDirectory}, by the bytes of the name. */
export function findBytes(volume: NtfsVolume, directory: NtfsInode, name: Uint8Array): number | undefined {
  const wanted = decodeName(name);
  if (wanted === undefined || wanted === "" || wanted === "." || wanted === "..") return undefined;
  return findInDirectory(volume, directory, wanted)?.reference.record;
}

/** The files of NTFS itself lie in the root; its own name `.` is one of them. */
function isHidden({ name, reference }: IndexKey): boolean {
  return reference.record < RECORD.firstUser || name === "." || name === "..";
}

function checkedName(tree: NameTree, { name }: IndexKey): Uint8Array {
  if (name === "" || name.includes("\0") || name.includes("/")) {
    throw tree.damaged("a name that no file may have");
  }
  return encodeName(name);
}

/** Special files have the flag of system files, and reparse points may be anything. */
function typeOf({ flags }: IndexKey): GuestFileType | undefined {
  if ((flags & FILE_FLAG.reparsePoint) !== 0) return undefined;
  if ((flags & FILE_FLAG.directory) !== 0) return "directory";
  return (flags & FILE_FLAG.system) !== 0 ? undefined : "file";
}

class NameTree {
  readonly #volume: NtfsVolume;
  readonly #directory: NtfsInode;
  readonly #root: Uint8Array;
  readonly #blockBytes: number;

  constructor(volume: NtfsVolume, directory: NtfsInode) {
    this.#volume = volume;
    this.#directory = directory;
    const { resident } = directory.needStream(ATTRIBUTE.indexRoot, NAME_INDEX);
    if (resident === undefined) throw this.damaged("its index root is not in its record");
    this.#root = resident;
    this.#blockBytes = u32(resident, 8);
    const blockBytes = this.#blockBytes;
    if (
      blockBytes < FIXUP_STRIDE_BYTES || blockBytes > BLOCK_BYTES_MAX ||
      !Number.isInteger(Math.log2(blockBytes))
    ) {
      throw this.damaged(`its nodes have ${blockBytes} bytes`);
    }
    if (u32(resident, 0) !== ATTRIBUTE.fileName) throw this.damaged("it is not an index of names");
  }

  damaged(found: string): VarveError {
    return damaged(`reading directory ${this.#directory.number}`, found);
  }

  root(): IndexNode {
    return parseIndexNode(this.#root, { header: ROOT_HEADER, directory: this.#directory.number, vcn: -1 });
  }

  node(vcn: number): IndexNode {
    const { number } = this.#directory;
    const { geometry, metadata, nodes } = this.#volume;
    const unitBytes = geometry.clusterBytes > this.#blockBytes ? FIXUP_STRIDE_BYTES : geometry.clusterBytes;
    const offset = vcn * unitBytes;
    const stream = this.#directory.needStream(ATTRIBUTE.indexAllocation, NAME_INDEX);
    if (offset + this.#blockBytes > stream.initialisedBytes) {
      throw this.damaged(`node ${vcn} lies outside its index`);
    }
    const [place] = stream.runs(offset, this.#blockBytes);
    if (place?.kind !== "stored") throw this.damaged(`node ${vcn} is a hole`);
    const cached = nodes.get(place.deviceOffset);
    if (cached?.directory === number && cached.vcn === vcn) return cached;
    const bytes = new Uint8Array(this.#blockBytes);
    stream.read(metadata, offset, bytes);
    applyFixups(bytes, "INDX", `node ${vcn} of directory ${number}`);
    if (u64(bytes, 0x10) !== vcn) throw this.damaged(`node ${vcn} says it is node ${u64(bytes, 0x10)}`);
    const node = parseIndexNode(bytes, { header: BLOCK_HEADER, directory: number, vcn });
    nodes.set(place.deviceOffset, node, bytes.length * NODE_WEIGHT);
    return node;
  }

  /** The first key that `compare` calls the same as what is wanted; it is negative where what is wanted comes before the key. */
  find(compare: (name: string) => number): IndexKey | undefined {
    let found: IndexKey | undefined;
    let node = this.root();
    for (let depth = 1;; depth++) {
      let below: number | undefined;
      for (const { child, key } of node.entries) {
        const order = key === undefined ? -1 : compare(key.name);
        if (order > 0) continue;
        if (order === 0) found = key;
        below = child;
        break;
      }
      if (below === undefined) return found;
      if (depth === DEPTH_MAX) throw this.damaged(`its tree has more than ${DEPTH_MAX} levels`);
      node = this.node(below);
    }
  }
}

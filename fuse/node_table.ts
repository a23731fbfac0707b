/**
 * The kernel's books on nodes: which number stands for which node, and how often it was handed out.
 *
 * A number lives from the first reply that carries it until the kernel has forgotten every one of those
 * replies. Numbers are never given out twice, so a generation is not needed.
 *
 * @module
 */
import { FUSE_ROOT_ID } from "./abi.ts";
import type { DirectoryNode, Node } from "./filesystem.ts";

interface Row {
  readonly node: Node;
  /** How many replies that carried this number the kernel has not forgotten yet. */
  count: number;
}

/** Node numbers of one session. */
export class NodeTable {
  readonly #rows = new Map<number, Row>();
  readonly #numbers = new Map<string, number>();
  #next = FUSE_ROOT_ID + 1;

  constructor(root: DirectoryNode) {
    this.#rows.set(FUSE_ROOT_ID, { node: root, count: 1 });
    this.#numbers.set(root.key, FUSE_ROOT_ID);
  }

  /** Numbers in use, the root's among them. */
  get size(): number {
    return this.#rows.size;
  }

  /** The node behind a number. */
  get(number: number): Node | undefined {
    return this.#rows.get(number)?.node;
  }

  /** The number of a node, handed out once more. */
  hand(node: Node): number {
    const known = this.#numbers.get(node.key);
    const row = known === undefined ? undefined : this.#rows.get(known);
    if (known !== undefined && row !== undefined) {
      row.count++;
      return known;
    }
    const number = this.#next++;
    this.#rows.set(number, { node, count: 1 });
    this.#numbers.set(node.key, number);
    return number;
  }

  /** Takes back `count` times that a number was handed out. The root stays. */
  forget(number: number, count: number): void {
    const row = this.#rows.get(number);
    if (row === undefined || number === FUSE_ROOT_ID) return;
    row.count -= count;
    if (row.count > 0) return;
    this.#rows.delete(number);
    this.#numbers.delete(row.node.key);
  }
}

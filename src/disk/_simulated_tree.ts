/**
 * Names on the simulated disk. A directory knows which names are there and which of them survive a power cut; until
 * a sync covers them, names that were made, renamed or removed survive or not, each by itself.
 */
import type { SeededRandom } from "../base/seeded_random.ts";
import type { FileNode } from "./_simulated_file.ts";

/** An SQLite database; its bytes lie in a folder of the machine. */
export interface DatabaseNode {
  readonly kind: "database";
  /** Where it really lies. */
  readonly scratchPath: string;
}

/** What a name may lead to. */
export type TreeNode = FileNode | DirectoryNode | DatabaseNode;

/** A change of names in one directory: those taken away, then the one added. */
interface NameChange {
  readonly removed: readonly string[];
  readonly added: { readonly name: string; readonly node: TreeNode } | undefined;
}

/** A directory. */
export class DirectoryNode {
  readonly kind = "directory";
  /** Names as everybody sees them. */
  readonly live = new Map<string, TreeNode>();
  #durable = new Map<string, TreeNode>();
  #changes: NameChange[] = [];

  /** Changes names at once for all to see, and for storage some time later. */
  change(removed: readonly string[], added?: { name: string; node: TreeNode }): void {
    const change = { removed, added };
    applyTo(this.live, change);
    this.#changes.push(change);
  }

  /** Adds a name that survives at once; what happened to that name before cannot take it away again. */
  addDurably(name: string, node: TreeNode): void {
    this.settle(
      new Set(this.#changes.filter(({ removed, added }) => added?.name === name || removed.includes(name))),
    );
    this.live.set(name, node);
    this.#durable.set(name, node);
  }

  /** What a sync that begins now will cover. */
  cover(): ReadonlySet<NameChange> {
    return new Set(this.#changes);
  }

  /** A sync has ended well. */
  settle(cover: ReadonlySet<NameChange>): void {
    for (const change of this.#changes) if (cover.has(change)) applyTo(this.#durable, change);
    this.#changes = this.#changes.filter((change) => !cover.has(change));
  }

  /** The power fails, here and below. */
  cutPower(random: SeededRandom): void {
    const mood = random.below(3);
    for (const change of this.#changes) {
      if (mood === 1 || (mood === 2 && random.oneIn(2))) applyTo(this.#durable, change);
    }
    this.#changes = [];
    this.live.clear();
    for (const [name, node] of this.#durable) this.live.set(name, node);
    for (const node of this.live.values()) if (node.kind !== "database") node.cutPower(random);
  }

  /** Everything below, this directory left out. */
  *below(): Generator<TreeNode> {
    for (const node of this.live.values()) {
      yield node;
      if (node.kind === "directory") yield* node.below();
    }
  }
}

function applyTo(names: Map<string, TreeNode>, change: NameChange): void {
  for (const name of change.removed) names.delete(name);
  if (change.added !== undefined) names.set(change.added.name, change.added.node);
}

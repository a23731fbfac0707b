/**
 * The mounted tree: every retained moment of every volume as a folder of the host, over FUSE.
 *
 * Linux alone. The kernel's protocol is spoken directly, in a Worker of its own; nothing but libc is needed, and
 * `fusermount3` by users other than root.
 *
 * ```ts ignore
 * const tree = await mountTree({ path: "/varve", engine, locate });
 * // … ls /varve/VOLUME/points
 * await tree.unmount();
 * ```
 *
 * - {@linkcode mountTree} mounts it and answers a {@linkcode MountedTree}.
 *
 * @module
 */
export { type MountedTree, mountTree, type MountTreeOptions } from "./host.ts";
export type { PastPlace } from "./messages.ts";

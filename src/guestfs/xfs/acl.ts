/**
 * POSIX ACLs: XFS keeps them as `trusted` attributes of a form of its own, Linux shows them in that of `posix_acl_xattr.h`.
 *
 * ```text
 * disk    u32 entries, then u32 tag, u32 id, u16 permissions, u16 padding; big-endian
 * Linux   u32 2, then u16 tag, u16 permissions, u32 id (0xffffffff for none); little-endian
 * ```
 *
 * @module
 */
import { damaged, u16be, u32be } from "../_bytes.ts";

const LINUX_VERSION = 2;
const NO_ID = 0xffffffff;
const TAG_USER = 0x2;
const TAG_GROUP = 0x8;
const ENTRY_BYTES = 12;

/** Names of attributes of the root namespace that are ACLs, and what Linux calls them. */
export const ACL_NAMES: ReadonlyMap<string, string> = new Map([
  ["SGI_ACL_FILE", "system.posix_acl_access"],
  ["SGI_ACL_DEFAULT", "system.posix_acl_default"],
]);

/** Converts an ACL as XFS keeps it to the value that `getxattr` gives. */
export function aclToLinux(stored: Uint8Array): Uint8Array {
  const count = u32be(stored, 0);
  if (4 + count * ENTRY_BYTES !== stored.length) {
    throw damaged("reading an ACL", `${count} entries in ${stored.length} bytes`);
  }
  const linux = new Uint8Array(4 + count * 8);
  const view = new DataView(linux.buffer);
  view.setUint32(0, LINUX_VERSION, true);
  for (let index = 0; index < count; index++) {
    const from = 4 + index * ENTRY_BYTES;
    const to = 4 + index * 8;
    const tag = u32be(stored, from);
    view.setUint16(to, tag, true);
    view.setUint16(to + 2, u16be(stored, from + 8), true);
    view.setUint32(to + 4, tag === TAG_USER || tag === TAG_GROUP ? u32be(stored, from + 4) : NO_ID, true);
  }
  return linux;
}

/**
 * POSIX ACLs: ext4 keeps them in a form of its own, Linux shows them in that of `posix_acl_xattr.h`.
 *
 * ```text
 * disk    u32 1, then u16 tag, u16 permissions, and u32 id only for named users and groups
 * Linux   u32 2, then u16 tag, u16 permissions, u32 id (0xffffffff for none)
 * ```
 *
 * @module
 */
import { damaged, u16, u32 } from "../_bytes.ts";

const DISK_VERSION = 1;
const LINUX_VERSION = 2;
const NO_ID = 0xffffffff;
const TAG_USER = 0x2;
const TAG_GROUP = 0x8;

/** Converts an ACL as ext4 keeps it to the value that `getxattr` gives. */
export function aclToLinux(stored: Uint8Array): Uint8Array {
  if (u32(stored, 0) !== DISK_VERSION) throw damaged("reading an ACL", `version ${u32(stored, 0)}`);
  const words: number[] = [LINUX_VERSION];
  for (let at = 4; at < stored.length;) {
    const tag = u16(stored, at);
    const named = tag === TAG_USER || tag === TAG_GROUP;
    words.push(tag + u16(stored, at + 2) * 65536, named ? u32(stored, at + 4) : NO_ID);
    at += named ? 8 : 4;
  }
  const linux = new Uint8Array(words.length * 4);
  const view = new DataView(linux.buffer);
  for (const [index, word] of words.entries()) view.setUint32(index * 4, word, true);
  return linux;
}

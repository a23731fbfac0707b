/**
 * Named streams of a file, shown as extended attributes `user.NAME`, as ntfs-3g shows them by default.
 *
 * @module
 */
import { VarveError } from "../../base/errors.ts";
import { damaged } from "../_bytes.ts";
import type { GuestXattr } from "../guest.ts";
import { ATTRIBUTE } from "./format.ts";
import type { NtfsInode } from "./inode.ts";
import { encodeName } from "./names.ts";
import type { NtfsVolume } from "./volume.ts";

/** Limits of Linux on one attribute. */
const VALUE_BYTES_MAX = 65_536;
const NAME_BYTES_MAX = 255;
/** All attributes of a file together, since a hostile one could have thousands. */
const TOTAL_BYTES_MAX = 16 * 1024 * 1024;

/**
 * The named streams that fit an extended attribute. Left out are those above 64 KiB or with names above 255 bytes, which Linux could
 * not show, and encrypted ones. Throws `unsupported` when together they are too many.
 */
export function readNamedStreams(volume: NtfsVolume, inode: NtfsInode): GuestXattr[] {
  const xattrs: GuestXattr[] = [];
  let total = 0;
  for (const streamName of inode.names(ATTRIBUTE.data)) {
    if (streamName === "") continue;
    if (streamName.includes("\0")) {
      throw damaged(`reading file ${inode.number}`, "a stream has a name that none may have");
    }
    const name = encodeName(`user.${streamName}`);
    const stream = inode.needStream(ATTRIBUTE.data, streamName);
    if (name.length > NAME_BYTES_MAX || stream.sizeBytes > VALUE_BYTES_MAX || stream.encrypted) continue;
    total += stream.sizeBytes;
    if (total > TOTAL_BYTES_MAX) {
      throw new VarveError(
        "unsupported",
        `reading file ${inode.number}: its named streams have more than 16 MiB`,
      );
    }
    xattrs.push({ name, value: stream.readAll(volume.device, VALUE_BYTES_MAX) });
  }
  return xattrs;
}

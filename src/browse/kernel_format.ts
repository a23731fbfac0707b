/**
 * Which of its drivers the host's kernel would need to read a partition.
 *
 * Only the driver whose format is found is ever asked: a hostile disk must not try out all of them.
 *
 * @module
 */

interface KernelFormat {
  /** Name of the kernel's driver. */
  readonly type: string;
  /** Byte offset of the magic. */
  readonly offset: number;
  /** Each character is one byte. */
  readonly magic: string;
}

/** Magics as Linux `include/uapi/linux/magic.h` and the drivers' own headers have them, in the order of bytes. */
const FORMATS: readonly KernelFormat[] = [
  { type: "xfs", offset: 0, magic: "XFSB" },
  { type: "btrfs", offset: 0x10040, magic: "_BHRfS_M" },
  { type: "ext4", offset: 1080, magic: "\x53\xef" },
  { type: "f2fs", offset: 1024, magic: "\x10\x20\xf5\xf2" },
  { type: "erofs", offset: 1024, magic: "\xe2\xe1\xf5\xe0" },
  { type: "squashfs", offset: 0, magic: "hsqs" },
  { type: "jfs", offset: 32768, magic: "JFS1" },
  { type: "nilfs2", offset: 1030, magic: "\x34\x34" },
  { type: "hfsplus", offset: 1024, magic: "H+" },
  { type: "hfsplus", offset: 1024, magic: "HX" },
  { type: "ntfs3", offset: 3, magic: "NTFS    " },
  { type: "exfat", offset: 3, magic: "EXFAT   " },
  { type: "vfat", offset: 82, magic: "FAT32   " },
  { type: "vfat", offset: 54, magic: "FAT12   " },
  { type: "vfat", offset: 54, magic: "FAT16   " },
  { type: "udf", offset: 34817, magic: "NSR02" },
  { type: "udf", offset: 34817, magic: "NSR03" },
  { type: "iso9660", offset: 32769, magic: "CD001" },
];

/**
 * Name of the driver, or `undefined` when no format that one is known for is found. `read` fills its target from an offset of the
 * partition; what it throws is thrown.
 */
export function kernelFormatOf(
  sizeBytes: number,
  read: (offset: number, target: Uint8Array) => void,
): string | undefined {
  return FORMATS.find(({ offset, magic }) => {
    if (offset + magic.length > sizeBytes) return false;
    const bytes = new Uint8Array(magic.length);
    read(offset, bytes);
    return bytes.every((byte, index) => byte === magic.charCodeAt(index));
  })?.type;
}

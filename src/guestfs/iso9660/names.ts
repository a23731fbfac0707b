/**
 * How names of ISO 9660 are shown when Rock Ridge does not tell them: as Linux shows them by default.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** A plain name: in lower case, without the version 1 and a dot at the end; other versions stand behind a dot. */
export function plainName(stored: Uint8Array): Uint8Array {
  const name = stored.map((byte) => byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte === 0x3b ? 0x2e : byte);
  const versioned = endsInVersionOne(stored) ? name.subarray(0, name.length - 2) : name;
  return safe(versioned.at(-1) === 0x2e ? versioned.subarray(0, versioned.length - 1) : versioned);
}

/** A name of Joliet, UCS-2 with the high byte first, as UTF-8. */
export function jolietName(stored: Uint8Array): Uint8Array {
  const text = Buffer.from(stored.subarray(0, stored.length & ~1)).swap16().toString("utf16le");
  return safe(new TextEncoder().encode(text.endsWith(";1") ? text.slice(0, -2) : text));
}

/** Bytes that no name may have become underscores. */
export function safe(name: Uint8Array): Uint8Array {
  const shown = name.map((byte) => byte === 0 || byte === 0x2f ? 0x5f : byte);
  return shown.length === 0 || (shown.length <= 2 && shown.every((byte) => byte === 0x2e))
    ? UNDERSCORE
    : shown;
}

const UNDERSCORE = Uint8Array.of(0x5f);

function endsInVersionOne(name: Uint8Array): boolean {
  return name.length > 2 && name.at(-2) === 0x3b && name.at(-1) === 0x31;
}

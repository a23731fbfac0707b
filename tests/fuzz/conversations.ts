/**
 * What clients say to an NBD server when they are broken or hostile: valid conversations, mutated by bytes and by
 * messages.
 */
import type { SeededRandom } from "../../src/base/seeded_random.ts";
import {
  concat,
  extendedRequest,
  infoData,
  metaData,
  option,
  request,
  u32,
  utf8,
} from "../../src/nbd/_testing.ts";
import { Command, CommandFlag, type MessageForm, Option } from "../../src/nbd/protocol.ts";

/** Size of every export of the fuzzer. */
export const EXPORT_BYTES = 1024 * 1024 + 5;
/** Names of its exports: one to write, one of the past. */
export const EXPORT_NAMES = ["disk", "past"] as const;
/** The map of its exports. */
export const MAP_NAME = "qemu:dirty-bitmap:since-10m ago";

const QUERIES = ["base:allocation", "base:", "qemu:", MAP_NAME, "x-nothing:y", "z"] as const;
const NAMES = [...EXPORT_NAMES, "nothing", ""] as const;

/** One conversation: its messages in the order in which they are sent, the first one the client's flags. */
export function makeConversation(random: SeededRandom): Uint8Array[] {
  const form = random.pick<MessageForm>(["simple", "structured", "extended"]);
  const messages = [u32(random.oneIn(20) ? random.below(6) : 3)];
  if (random.oneIn(4)) messages.push(option(Option.LIST));
  if (form === "structured") messages.push(option(Option.STRUCTURED_REPLY));
  if (form === "extended") messages.push(option(Option.EXTENDED_HEADERS));
  const name = random.oneIn(10) ? random.pick(NAMES) : random.pick(EXPORT_NAMES);
  for (let count = random.below(5); count > 0; count--) messages.push(makeOption(random));
  if (form !== "simple" && !random.oneIn(3)) {
    messages.push(option(Option.SET_META_CONTEXT, makeMetaData(random, name)));
  }
  messages.push(
    form !== "extended" && random.oneIn(3)
      ? option(Option.EXPORT_NAME, utf8(name))
      : option(Option.GO, infoData(name, random.oneIn(2) ? [3] : [])),
  );
  for (let count = 4 + random.below(40); count > 0; count--) messages.push(makeRequest(random, form, count));
  if (random.oneIn(2)) messages.push(encodeRequest(form, { type: Command.DISC }));
  return messages;
}

function makeOption(random: SeededRandom): Uint8Array {
  const kind = random.oneIn(12) ? random.bits() : random.below(13);
  // Encryption, EXPORT_NAME and ABORT end a conversation, or this part of it: seldom.
  const isFinal = kind === Option.STARTTLS || kind === Option.ABORT || kind === Option.EXPORT_NAME;
  if (isFinal && !random.oneIn(4)) return option(Option.LIST);
  const name = random.pick(NAMES);
  switch (random.below(6)) {
    case 0:
      return option(kind);
    case 1:
      return option(kind, utf8(name));
    case 2:
      return option(kind, infoData(name, [0, 1, 2, 3, 9].slice(random.below(5))));
    case 3:
      return option(kind, random.bytes(random.below(60)));
    default:
      return option(kind, makeMetaData(random, name));
  }
}

function makeMetaData(random: SeededRandom, name: string): Uint8Array {
  return metaData(name, Array.from({ length: random.below(4) }, () => random.pick(QUERIES)));
}

function makeRequest(random: SeededRandom, form: MessageForm, number: number): Uint8Array {
  const type = random.oneIn(30) ? random.below(0x10000) : random.pick([0, 0, 0, 1, 1, 1, 3, 4, 5, 6, 7, 7]);
  const offset = random.oneIn(12)
    ? (BigInt(random.bits()) << 32n) + BigInt(random.bits())
    : BigInt(random.below(random.oneIn(8) ? EXPORT_BYTES + 10 : EXPORT_BYTES - 70_000));
  const flags = random.oneIn(10)
    ? random.below(0x10000)
    : random.oneIn(3)
    ? random.pick(Object.values(CommandFlag) as [number])
    : 0;
  const cookie = (BigInt(random.bits()) << 32n) + BigInt(number);
  if (type === Command.WRITE) {
    // One in a hundred is so large that it is received apart.
    const payload = random.oneIn(100)
      ? new Uint8Array(300_000 + random.below(100_000)).fill(random.bits())
      : random.bytes(random.below(random.oneIn(10) ? 9000 : 200));
    const withLength = form === "extended" && !random.oneIn(40) ? CommandFlag.PAYLOAD_LEN : 0;
    return encodeRequest(form, { type, offset, payload, cookie, flags: flags | withLength });
  }
  if (form === "extended" && type === Command.BLOCK_STATUS && random.oneIn(3)) {
    const ids = Array.from({ length: random.below(4) }, () => u32(1 + random.below(3)));
    const payload = concat(new Uint8Array(4), u32(1 + random.below(100_000)), ...ids);
    return encodeRequest(form, { type, offset, payload, cookie, flags: flags | CommandFlag.PAYLOAD_LEN });
  }
  const length = type === Command.FLUSH ? 0 : random.oneIn(20) ? random.bits() : random.below(80_000);
  return encodeRequest(form, { type, offset: type === Command.FLUSH ? 0n : offset, cookie, flags, length });
}

function encodeRequest(form: MessageForm, fields: Parameters<typeof request>[0]): Uint8Array {
  return form === "extended" ? extendedRequest(fields) : request(fields);
}

/** The conversation as a broken client says it: at least one thing in it is different, most of it is as before. */
export function mutate(messages: readonly Uint8Array[], random: SeededRandom): Uint8Array[] {
  const result = [...messages];
  for (let count = 1 + random.below(3); count > 0 && result.length > 1; count--) {
    // Mostly behind the handshake: a conversation that ends there has little to tell.
    const at = random.oneIn(3)
      ? random.below(result.length)
      : Math.floor(result.length / 2) + random.below(result.length / 2);
    const message = result[at] ?? new Uint8Array();
    switch (random.below(16)) {
      case 0:
        result.splice(at, 1);
        break;
      case 1:
        result.splice(at, 0, message);
        break;
      case 2:
        result.splice(at, 1, ...result.splice(random.below(result.length), 1), message);
        break;
      case 3:
        result[at] = message.slice(0, random.below(message.length + 1));
        break;
      case 4:
        result[at] = concat(message, random.bytes(1 + random.below(40)));
        break;
      case 5:
        result[at] = random.bytes(message.length);
        break;
      default:
        result[at] = withOtherBytes(message, random);
    }
  }
  return result;
}

const MAGIC_BYTES = 4;

/** Heads decide more than payloads: most changes are made there, behind the magic number, and to values that mean something. */
function withOtherBytes(message: Uint8Array, random: SeededRandom): Uint8Array {
  const changed = message.slice();
  const first = changed.length > MAGIC_BYTES && !random.oneIn(10) ? MAGIC_BYTES : 0;
  for (let count = 1 + random.below(3); count > 0 && changed.length > 0; count--) {
    const at = first +
      random.below((random.oneIn(4) ? changed.length : Math.min(changed.length, 40)) - first);
    const before = changed[at] ?? 0;
    changed[at] = random.pick([before ^ (1 << random.below(8)), 0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
  }
  return changed;
}

/** How an option is refused. */
import { VarveError } from "../base/errors.ts";
import { decodeString, encodeOptionReply, encodeString } from "./_option_format.ts";
import { MAX_STRING_BYTES, optionErrorOf, Rep } from "./protocol.ts";

/** Thrown to refuse an option with a certain error; a `VarveError` is refused with the error that fits its code. */
export class Refusal extends Error {
  /** One of the errors of `Rep`. */
  readonly type: number;

  constructor(type: number, message: string) {
    super(message);
    this.type = type;
  }
}

/** The reply that refuses an option. */
export function refusalReply(option: number, thrown: unknown): Uint8Array {
  if (thrown instanceof Refusal) return encodeOptionReply(option, thrown.type, encodeString(thrown.message));
  const error = VarveError.from(thrown, `answer option ${option}`);
  const message = error.hint === undefined ? error.message : `${error.message}. ${error.hint}`;
  return encodeOptionReply(option, optionErrorOf(error.code), encodeString(message));
}

/** The name or query in an option; throws {@linkcode Refusal} when it is no such string. */
export function nameIn(bytes: Uint8Array): string {
  if (bytes.length > MAX_STRING_BYTES) {
    throw new Refusal(Rep.ERR_TOO_BIG, `read a name: longer than ${MAX_STRING_BYTES} bytes`);
  }
  const name = decodeString(bytes);
  if (name === undefined) throw new Refusal(Rep.ERR_INVALID, "read a name: it is not UTF-8 text");
  return name;
}

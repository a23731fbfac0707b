/**
 * What can be said of a request by looking at it alone: its payload and whether it is refused, whatever the device holds.
 *
 * @module
 */
import type { NbdRequest } from "./_message_format.ts";
import type { Failure } from "./_replies.ts";
import {
  Command,
  CommandFlag,
  MAX_PAYLOAD_BYTES,
  type MessageForm,
  NbdError,
  nbdErrorOf,
} from "./protocol.ts";

/** Longest payload of a refused compact WRITE that is received and dropped. */
const MAX_SKIPPED_BYTES = 256 * 1024 * 1024;
/** Length and at least one context, as the payload of BLOCK_STATUS. */
const MIN_STATUS_PAYLOAD_BYTES = 12;

/** What requests are checked against. */
export interface RequestRules {
  /** The form of the connection's messages. */
  readonly form: MessageForm;
  /** Whether the export cannot be written. */
  readonly readOnly: boolean;
  /** Size of the export. */
  readonly sizeBytes: number;
  /** Number of metadata contexts that are selected. */
  readonly contextCount: number;
}

const NO_SUCH_COMMAND: Failure = { error: NbdError.EINVAL, message: "unknown command" };
const NO_SUCH_FLAG: Failure = { error: NbdError.EINVAL, message: "a flag that this command does not have" };
const READ_ONLY: Failure = { error: NbdError.EPERM, message: "the export is read-only" };
const TOO_LONG: Failure = {
  error: NbdError.EINVAL,
  message: `longer than ${MAX_PAYLOAD_BYTES} bytes`,
};
const FLUSH_OF_A_RANGE: Failure = { error: NbdError.EINVAL, message: "a flush has no offset and no length" };
const NO_CONTEXTS: Failure = { error: NbdError.EINVAL, message: "no metadata context is selected" };
const EMPTY_STATUS: Failure = { error: NbdError.EINVAL, message: "the status of no bytes at all" };
const NO_PAYLOAD_EXPECTED: Failure = { error: NbdError.EINVAL, message: "this command has no payload" };
/** Why the payload of a BLOCK_STATUS cannot be used. */
export const BAD_STATUS_PAYLOAD: Failure = {
  error: NbdError.EINVAL,
  message: "the payload does not name selected metadata contexts, each once",
};

/** Why commands are refused once the server is being stopped. */
export const STOPPING: Failure = { error: NbdError.ESHUTDOWN, message: "the server is being stopped" };

/**
 * Number of bytes that follow a request; `undefined` when they are too many to be received, or nobody can tell: an
 * extended WRITE whose length is not said to be that of a payload might have one nevertheless, which would be taken for
 * requests.
 */
export function payloadBytesOf({ type, flags, length }: NbdRequest, form: MessageForm): number | undefined {
  if (form === "extended") {
    if ((flags & CommandFlag.PAYLOAD_LEN) === 0) return type === Command.WRITE ? undefined : 0;
    return length <= MAX_PAYLOAD_BYTES ? length : undefined;
  }
  if (type !== Command.WRITE) return 0;
  return length <= MAX_SKIPPED_BYTES ? length : undefined;
}

/** Why a request cannot be right, whatever the device holds. A BLOCK_STATUS with payload has its range there. */
export function refusalOf(request: NbdRequest, rules: RequestRules): Failure | undefined {
  const { type, offset, length } = request;
  const flagFailure = flagRefusal(request, rules);
  if (flagFailure !== undefined) return flagFailure;
  switch (type) {
    case Command.FLUSH:
      return offset === 0 && length === 0 ? undefined : FLUSH_OF_A_RANGE;
    case Command.READ:
      if (length > MAX_PAYLOAD_BYTES) return TOO_LONG;
      break;
    case Command.WRITE:
      if (rules.readOnly) return READ_ONLY;
      if (length > MAX_PAYLOAD_BYTES) return TOO_LONG;
      break;
    case Command.TRIM:
    case Command.WRITE_ZEROES:
      if (rules.readOnly) return READ_ONLY;
      break;
    case Command.BLOCK_STATUS:
      if (rules.contextCount === 0) return NO_CONTEXTS;
      if ((request.flags & CommandFlag.PAYLOAD_LEN) !== 0) {
        const longest = MIN_STATUS_PAYLOAD_BYTES + 4 * (rules.contextCount - 1);
        return length < MIN_STATUS_PAYLOAD_BYTES || length > longest ? BAD_STATUS_PAYLOAD : undefined;
      }
      if (length === 0) return EMPTY_STATUS;
      break;
    case Command.CACHE:
      break;
    default:
      return NO_SUCH_COMMAND;
  }
  return rangeRefusal(type, offset, length, rules);
}

/** Why a command may not touch a range. */
export function rangeRefusal(
  type: number,
  offset: number,
  length: number,
  rules: RequestRules,
): Failure | undefined {
  if (length <= rules.sizeBytes - offset) return undefined;
  return {
    error: nbdErrorOf("out-of-range", type),
    message: `${length} bytes at ${offset}: the export ends at ${rules.sizeBytes}`,
  };
}

/** FUA goes with every command. */
function flagRefusal({ type, flags }: NbdRequest, { form }: RequestRules): Failure | undefined {
  let allowed: number = CommandFlag.FUA;
  if (type === Command.WRITE_ZEROES) allowed |= CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO;
  if (type === Command.READ && form !== "simple") allowed |= CommandFlag.DF;
  if (type === Command.BLOCK_STATUS && form !== "simple") allowed |= CommandFlag.REQ_ONE;
  if (form === "extended" && (type === Command.WRITE || type === Command.BLOCK_STATUS)) {
    allowed |= CommandFlag.PAYLOAD_LEN;
  }
  const foreign = flags & ~allowed;
  if (foreign === 0) return undefined;
  return form === "extended" && foreign === CommandFlag.PAYLOAD_LEN ? NO_PAYLOAD_EXPECTED : NO_SUCH_FLAG;
}

/**
 * BLOCK_STATUS: which contexts are asked about which range, and how the answer becomes a reply.
 *
 * @module
 */
import { MAX_RUNS, type StatusContext, statusOf } from "./block_status.ts";
import type { MapRun } from "./exports.ts";
import { decodeStatusPayload, type NbdRequest } from "./_message_format.ts";
import type { Failure, Replies } from "./_replies.ts";
import { BAD_STATUS_PAYLOAD, rangeRefusal, type RequestRules } from "./_requests.ts";
import { Command, CommandFlag } from "./protocol.ts";

/** What a BLOCK_STATUS is answered from. */
export interface StatusSource {
  /** The contexts that are selected. */
  readonly contexts: readonly StatusContext[];
  /** What a range in a payload is checked against. */
  readonly rules: RequestRules;
  /** The payload of the request; empty when it has none. */
  readonly payload: Uint8Array;
  /** Translates what a map threw. */
  readonly failureOf: (thrown: unknown) => Failure;
}

/**
 * Answers a BLOCK_STATUS at once; or, when a map has to wait, promises the reply that is then to be made, and never
 * rejects. Throws what a map throws at once when it is the only one.
 */
export function answerStatus(
  replies: Replies,
  request: NbdRequest,
  source: StatusSource,
): Promise<() => void> | undefined {
  const question = questionIn(request, source);
  if ("error" in question) {
    replies.end(request, question);
    return undefined;
  }
  const { contexts, length } = question;
  const max = (request.flags & CommandFlag.REQ_ONE) === 0 ? MAX_RUNS : 1;
  const tell = (ticket: NbdRequest, told: MapRun[][]) =>
    contexts.forEach(({ id }, index) =>
      replies.status(ticket, id, told[index] ?? [], index === contexts.length - 1)
    );
  const answer = statusOf(contexts, { offset: request.offset, length, max });
  if (!(answer instanceof Promise)) {
    tell(request, answer);
    return undefined;
  }
  const ticket = { ...request };
  return answer.then(
    (told) => () => tell(ticket, told),
    (thrown) => {
      const failure = source.failureOf(thrown);
      return () => replies.end(ticket, failure);
    },
  );
}

/** All selected contexts and the request's range, or those that its payload names and the range there. */
function questionIn(
  request: NbdRequest,
  { contexts, rules, payload }: StatusSource,
): { contexts: readonly StatusContext[]; length: number } | Failure {
  if (payload.length === 0) return { contexts, length: request.length };
  const asked = decodeStatusPayload(payload);
  if (asked === undefined || asked.length === 0) return BAD_STATUS_PAYLOAD;
  const chosen = contexts.filter(({ id }) => asked.contexts.includes(id));
  // Fewer than were named: one of them is unknown, or named twice.
  if (chosen.length < asked.contexts.length) return BAD_STATUS_PAYLOAD;
  const failure = rangeRefusal(Command.BLOCK_STATUS, request.offset, asked.length, rules);
  return failure ?? { contexts: chosen, length: asked.length };
}

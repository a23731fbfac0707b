/**
 * Problem documents (RFC 9457), and the one table from codes to HTTP.
 *
 * @module
 */
import type { z } from "@hono/zod-openapi";
import type { ErrorCode, VarveError } from "../src/base/errors.ts";

/** Failures that only HTTP knows. */
export type HttpCode =
  | "unauthorized"
  | "method-not-allowed"
  | "too-large"
  | "unsupported-media-type"
  | "internal";

/** Every code that a problem document may carry. */
export type ProblemCode = ErrorCode | HttpCode;

const PROBLEMS = {
  "invalid": [400, "The request is not valid"],
  "unauthorized": [401, "A token is needed"],
  "forbidden": [403, "The caller may not do this"],
  "read-only": [403, "This cannot be written"],
  "not-found": [404, "There is no such thing"],
  "method-not-allowed": [405, "This address does not take that method"],
  "conflict": [409, "The present state does not allow this"],
  "cancelled": [409, "The work was cancelled"],
  "not-retained": [410, "This moment is not retained"],
  "too-large": [413, "The body is too large"],
  "unsupported-media-type": [415, "The body must be JSON"],
  "out-of-range": [416, "The range leaves the end"],
  "unsupported": [422, "Varve does not do this"],
  "internal": [500, "Something went wrong inside Varve"],
  "io": [500, "The storage failed"],
  "damaged": [500, "Bytes were found that cannot be proved right"],
  "no-space": [507, "The storage is full"],
} as const satisfies Record<ProblemCode, readonly [status: number, title: string]>;

/** One field that was not accepted. */
export interface FieldError {
  /** Path of the field, parts joined by dots: `tiers.0.every`. */
  field: string;
  /** What would be accepted. */
  message: string;
}

/** What goes into a problem document besides its code and detail. */
export interface ProblemExtras {
  /** The first field at fault. */
  field?: string | undefined;
  /** Every field at fault. */
  errors?: FieldError[] | undefined;
  /** What the caller can do about it. */
  hint?: string | undefined;
  /** Further facts; they never replace the members above. */
  details?: Record<string, unknown> | undefined;
  /** Response headers. */
  headers?: Record<string, string> | undefined;
}

/** The HTTP status of a code. */
export function statusOf(code: ProblemCode): number {
  return PROBLEMS[code][0];
}

/** Makes the response that carries a problem document. */
export function problemResponse(code: ProblemCode, detail: string, extras: ProblemExtras = {}): Response {
  const [status, title] = PROBLEMS[code];
  const { field, errors, hint, details, headers } = extras;
  const type = `urn:varve:problem:${code}`;
  // JSON leaves out the members that are undefined.
  const body = JSON.stringify({ ...details, type, title, status, code, detail, field, errors, hint });
  return new Response(body, { status, headers: { "content-type": "application/problem+json", ...headers } });
}

/** The problem of an engine's error. */
export function problemOfError(error: VarveError): Response {
  const { code, message, field, hint, details } = error;
  const errors = field === undefined ? undefined : [{ field, message }];
  return problemResponse(code, message, { field, errors, hint, details });
}

/** The problem of a request that does not fit its schema: every field at fault, with what would be accepted. */
export function problemOfValidation(error: z.ZodError, place: string): Response {
  const errors = error.issues.flatMap(fieldErrors);
  const named = errors.map(({ field, message }) => `${field} ${message}`).join("; ");
  return problemResponse("invalid", `Reading the ${place}: ${named}`, { field: errors[0]?.field, errors });
}

function fieldErrors(issue: z.core.$ZodIssue): FieldError[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ field: [...issue.path, key].join("."), message: issue.message }));
  }
  return [{ field: issue.path.length === 0 ? "body" : issue.path.join("."), message: issue.message }];
}

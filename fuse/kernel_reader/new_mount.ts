/**
 * Mounts that are attached nowhere, by fsopen(2), fsconfig(2) and fsmount(2).
 *
 * @module
 */
import { lastErrno } from "../../src/base/errno.ts";
import { VarveError } from "../../src/base/errors.ts";
import { cString } from "../libc.ts";
import { callFailure, errorText, libc, SYSCALL } from "./libc.ts";

const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG = { setFlag: 0, setString: 1, create: 6 } as const;

/** Descriptors, closed in reverse order. */
export class Descriptors implements Disposable {
  readonly #open: number[] = [];

  /** Takes over a descriptor, or throws by `errno` when there is none. */
  add(descriptor: number, tried: string): number {
    if (descriptor < 0) throw unsupported(tried, lastErrno());
    this.#open.push(descriptor);
    return descriptor;
  }

  /** Closes none of them: others have taken them over. */
  release(): void {
    this.#open.length = 0;
  }

  [Symbol.dispose](): void {
    for (let last = this.#open.pop(); last !== undefined; last = this.#open.pop()) libc.close(last);
  }
}

/** What is mounted. */
export interface NewMount {
  /** A key alone is a flag. */
  readonly options: readonly (readonly [key: string, value?: string])[];
  /** Of fsmount(2). */
  readonly attributes: number;
}

/**
 * A mount that is attached nowhere: it exists as long as its descriptor. Throws `unsupported`, or `damaged` where the kernel says so.
 */
export function newMount(type: string, { options, attributes }: NewMount, descriptors: Descriptors): number {
  using context = new Descriptors();
  const tried = `mount it as ${type}`;
  const opened = context.add(
    libc.newMount(SYSCALL.fsopen, cString(type), FSOPEN_CLOEXEC),
    `${tried}: the kernel does not know it, or lacks the module`,
  );
  for (const [key, value] of options) {
    const command = value === undefined ? FSCONFIG.setFlag : FSCONFIG.setString;
    const text = value === undefined ? null : cString(value);
    if (libc.configure(SYSCALL.fsconfig, opened, command, cString(key), text, 0) < 0) {
      throw refusal(`${tried}, option ${key}`, opened);
    }
  }
  if (libc.configure(SYSCALL.fsconfig, opened, FSCONFIG.create, null, null, 0) < 0) {
    throw refusal(tried, opened);
  }
  return descriptors.add(libc.attach(SYSCALL.fsmount, opened, FSMOUNT_CLOEXEC, attributes), tried);
}

/** What the driver says about why it refused, behind what `errno` says. */
function refusal(tried: string, context: number): VarveError {
  const errno = lastErrno();
  const said: string[] = [];
  const buffer = new Uint8Array(1024);
  for (let count = 0; count < 8; count++) {
    const length = libc.read(context, buffer, BigInt(buffer.length));
    if (length <= 0) break;
    said.push(new TextDecoder().decode(buffer.subarray(2, length)).trim());
  }
  const error = unsupported(tried, errno);
  return said.length === 0
    ? error
    : new VarveError(error.code, `${error.message} (the driver: ${said.join("; ")})`);
}

/** Whatever it is, the kernel does not do it on this host or with this disk. */
export function unsupported(tried: string, errno: number): VarveError {
  const { code } = callFailure(tried, errno);
  return new VarveError(
    code === "damaged" ? "damaged" : "unsupported",
    `${tried}: ${errorText(errno)}`,
  );
}

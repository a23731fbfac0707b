/**
 * Sockets that a service manager has opened for us, by the protocol of systemd (`sd_listen_fds(3)`).
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";

/** The first descriptor that is passed. */
const FIRST_FD = 3;
/** More than anybody passes; a larger number is a mistake. */
const MAX_FDS = 256;

/** A descriptor that was passed. */
export interface PassedSocket {
  /** The descriptor, which the receiver owns. */
  readonly fd: number;
  /** Its name in the service manager's words, for example of `FileDescriptorName=`; empty when it has none. */
  readonly name: string;
}

/** The environment, as far as it is needed here. */
export interface Environment {
  /** The value of a variable. */
  get(name: string): string | undefined;
  /** Removes a variable. */
  delete(name: string): void;
}

/**
 * What was passed to this process; nothing when the variables are for another one. They are removed, so that no child
 * takes them for its own. Throws `invalid` when they make no sense.
 */
export function takePassedSockets(
  environment: Environment = Deno.env,
  pid: number = Deno.pid,
): PassedSocket[] {
  const [forPid, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map((name) => {
    const value = environment.get(name);
    environment.delete(name);
    return value;
  });
  if (forPid === undefined || count === undefined || forPid !== String(pid)) return [];
  if (!/^[1-9][0-9]{0,3}$/.test(count) || Number(count) > MAX_FDS) {
    throw new VarveError("invalid", `take over sockets: LISTEN_FDS is "${count}", no number of descriptors`);
  }
  const split = names === undefined || names === "" ? [] : names.split(":");
  if (split.length > Number(count)) {
    throw new VarveError("invalid", `take over sockets: ${split.length} names for ${count} descriptors`);
  }
  return Array.from({ length: Number(count) }, (_, index) => ({
    fd: FIRST_FD + index,
    name: split[index] ?? "",
  }));
}

/**
 * One client on standard input and output, as `inetd` and libnbd's `connect_command` serve one.
 *
 * @module
 */
import { VarveError } from "../base/errors.ts";
import { duplicate, streamSocketKind, takeConnected } from "./_sockets.ts";
import { socketTransport } from "./socket_transport.ts";
import type { Transport } from "./transport.ts";

const PEER = "stdio";

/**
 * The transport to whoever holds the other ends. One socket for both is used like any other; else, standard input and output are
 * pipes or files, and a read that waits for input is left to itself by `close`: it keeps the process alive until the
 * input ends.
 */
export function stdioTransport(): Transport {
  const isOneSocket = streamSocketKind(0) === "connected" &&
    Deno.readLinkSync("/proc/self/fd/0") === Deno.readLinkSync("/proc/self/fd/1");
  if (!isOneSocket) return pipeTransport(Deno.stdin, Deno.stdout);
  const socket = takeConnected(duplicate(0));
  return socketTransport({ ...socket, peer: PEER });
}

/** The two directions of a pair of pipes. */
export function pipeTransport(
  input: Pick<typeof Deno.stdin, "read">,
  output: Pick<typeof Deno.stdout, "write" | "close">,
): Transport {
  const closed = Promise.withResolvers<never>();
  closed.promise.catch(() => {});
  let open = true;
  const check = (tried: string): void => {
    if (!open) throw new VarveError("cancelled", `${tried} over ${PEER}: it is closed`);
  };
  return {
    peer: PEER,
    async read(target) {
      check("receive");
      return await Promise.race([input.read(target), closed.promise]);
    },
    async write(buffers) {
      for (const buffer of buffers) {
        for (let sent = 0; sent < buffer.length;) {
          check("send");
          sent += await Promise.race([output.write(buffer.subarray(sent)), closed.promise]);
        }
      }
    },
    close() {
      if (!open) return;
      open = false;
      closed.reject(new VarveError("cancelled", `use ${PEER}: it is closed`));
      output.close();
    },
  };
}

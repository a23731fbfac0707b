import { makeFolder } from "./_testing.ts";
import { connPeer, testTransport } from "./_transport_conformance.ts";
import { pipeTransport } from "./stdio.ts";

// Both pipes are one connection of the runtime: like pipes, it is read and written by promises alone.
testTransport("pipes", async () => {
  const folder = await makeFolder();
  const listener = Deno.listen({ transport: "unix", path: `${folder.path}/s` });
  const peer = connPeer(await Deno.connect({ transport: "unix", path: `${folder.path}/s` }));
  const conn = await listener.accept();
  listener.close();
  const transport = pipeTransport(conn, conn);
  return {
    transport,
    peer,
    async [Symbol.asyncDispose]() {
      transport.close();
      peer.close();
      await folder[Symbol.asyncDispose]();
    },
  };
});

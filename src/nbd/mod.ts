/**
 * An NBD server over any `BlockDevice`: fixed newstyle handshake, simple, structured and extended replies, metadata
 * contexts, encryption by STARTTLS, several listeners.
 *
 * ```ts
 * import { MemoryDevice } from "../base/memory_device.ts";
 * import { NbdServer } from "./mod.ts";
 *
 * const device = new MemoryDevice(1024 * 1024);
 * const server = new NbdServer({
 *   exports: {
 *     list: () => [{ name: "scratch", description: "lost at the end" }],
 *     open: (name) =>
 *       Promise.resolve(
 *         name === "scratch" ? { device, description: "lost at the end", client: 1, close: () => {} } : undefined,
 *       ),
 *   },
 * });
 * await server.listen("127.0.0.1:0");
 * await server.close();
 * ```
 *
 * @module
 */
export * from "./exports.ts";
export { type Environment, type PassedSocket, takePassedSockets } from "./activation.ts";
export {
  adoptListener,
  formatListenAddress,
  isLocal,
  type ListenAddress,
  type OpenListener,
  parseListenAddress,
} from "./listener.ts";
export { stdioTransport } from "./stdio.ts";
export { type CloseOptions, NbdServer, type NbdServerOptions } from "./server.ts";
export type { TlsFiles } from "./_tls_context.ts";
export { makeTls, type TlsConnection, type TlsOptions, type TlsUpgrade } from "./tls.ts";
export type { Transport } from "./transport.ts";

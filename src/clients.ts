/**
 * Who changed a volume, for people and programs.
 *
 * @module
 */
import { formatTime } from "./base/time.ts";
import { CLIENTS_MAX } from "./catalog/clients.ts";
import type { ClientEntry } from "./engine.ts";
import type { Volume } from "./volume/volume.ts";

const LIMIT = 100;

/** Connections that changed a volume and those that are open to it, newest first. */
export function listClients(volume: Volume, { limit = LIMIT }: { limit?: number }): ClientEntry[] {
  return volume.newestClients(Math.min(limit, CLIENTS_MAX)).map(({ identity, isConnected }) => {
    const { client, peer, credentials = {}, certificate, tls, openedUs } = identity;
    return {
      client,
      peer,
      ...credentials,
      ...(certificate === undefined ? {} : { certificate }),
      ...(tls === undefined ? {} : { tls }),
      openedAt: formatTime(openedUs, 6),
      connected: isConnected,
    };
  });
}

/**
 * Entry of the Worker that serves the mounted tree.
 *
 * @module
 */
import { openGuestDisk } from "../src/guestfs/mod.ts";
import { openPastView } from "../src/timeline/past.ts";
import { serveInWorker, type WorkerScope } from "./serve.ts";

serveInWorker(self as unknown as WorkerScope, { openGuestDisk, openPastView });

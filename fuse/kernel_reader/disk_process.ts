/**
 * Entry of the process that serves disks of the past to the kernel.
 *
 * @module
 */
import { openPastView } from "../../src/timeline/past.ts";
import { serveDisks } from "./disk_server.ts";

await serveDisks(openPastView);

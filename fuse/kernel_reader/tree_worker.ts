/**
 * Entry of the Worker that serves the mounted tree where the host's kernel may read what Varve does not.
 *
 * @module
 */
import { PastBrowser } from "../../src/browse/past_browser.ts";
import { serveInWorker, type WorkerScope } from "../serve.ts";
import { KernelReaders } from "./kernel_readers.ts";

const browser = new PastBrowser({ kernel: new KernelReaders() });
browser.warm();
serveInWorker(self as unknown as WorkerScope, browser);

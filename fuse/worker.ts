/**
 * Entry of the Worker that serves the mounted tree.
 *
 * @module
 */
import { PastBrowser } from "../src/browse/past_browser.ts";
import { serveInWorker, type WorkerScope } from "./serve.ts";

const browser = new PastBrowser();
browser.warm();
serveInWorker(self as unknown as WorkerScope, browser);

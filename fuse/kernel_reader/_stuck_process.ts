/** As `_image_process.ts`, but whoever reads the moment 666 waits: a process that shall be stopped for good. */
import { ImageDevice } from "../../src/guestfs/_test_support.ts";
import { serveDisks } from "./disk_server.ts";

const STUCK = 666;
const STUCK_MS = 4000;

await serveDisks(({ directory }, seq) => {
  const device = new ImageDevice(directory);
  if (seq === STUCK) {
    device.read = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STUCK_MS);
  }
  return { device, close: () => device[Symbol.dispose]() };
});

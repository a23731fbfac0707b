/** Entry of a process that serves images in files as if they were moments: the folder of their place is the path of the file. */
import { ImageDevice } from "../../src/guestfs/_test_support.ts";
import { serveDisks } from "./disk_server.ts";

await serveDisks(({ directory }) => {
  const device = new ImageDevice(directory);
  return { device, close: () => device[Symbol.dispose]() };
});

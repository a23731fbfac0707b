/**
 * The process that serves disks to the kernel. It never waits for anything but its own storage, so whoever in the kernel waits for it is
 * answered.
 *
 * Why a process of its own: a thread that waits in the kernel for a disk cannot be killed, and its process keeps all descriptors
 * until it is gone. Were the disk served by that process, a `kill -9` would leave a thread that waits for ever for a server that is no
 * more. This one outlives it, answers, and ends when all of it is over; and when this one is killed, its `/dev/fuse` closes, and the
 * kernel gives errors to all who wait.
 *
 * @module
 */
import type { BlockDevice } from "../../src/base/block_device.ts";
import { VarveError } from "../../src/base/errors.ts";
import { readPieces } from "../../src/browse/pieces.ts";
import type { PastPlace } from "../../src/timeline/past.ts";
import { closeDevice, Device, type DeviceHandles, openDevice, wakeDevice } from "../device.ts";
import {
  decodeMessages,
  type DiskPart,
  encodeMessage,
  type FromDisks,
  type ToDisks,
} from "./disk_messages.ts";
import { DiskSession } from "./disk_session.ts";
import { declareIoFlusher, libc } from "./libc.ts";
import { Descriptors, newMount } from "./new_mount.ts";
import { type BaseDisk, OverlayDisk } from "./overlay_disk.ts";

/** A regular file that nobody but root reads or writes, in octal. */
const ROOT_MODE = "100600";
/** How long disks are served once nobody talks to this process any more, in milliseconds. */
const ORPHANED_MS_MAX = 30_000;

/** Opens the disk of a moment. */
export type OpenDisk = (place: PastPlace, seq: number) => { device: BlockDevice; close(): void };

interface Serving {
  release(): void;
  stop(): void;
}

/** Serves disks as standard input says, until it ends. */
export async function serveDisks(open: OpenDisk): Promise<void> {
  const serving = new Map<number, Serving>();
  const ends = new Set<Promise<void>>();
  declareIoFlusher();
  // A terminal and a service manager signal all processes; the one that started this one unmounts first.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) Deno.addSignalListener(signal, () => {});

  async function serve(
    { id, place, seq, pieces }: ToDisks & { kind: "serve" },
  ): Promise<VarveError | undefined> {
    using parts = new DisposableStack();
    const view = parts.adopt(open(place, seq), ({ close }) => close());
    const disk = parts.use(new OverlayDisk(partOf(view.device, pieces)));
    const handles = parts.adopt(openDevice(), closeDevice);
    // Mounting asks this side for nothing, so it may come before the serving; a device that is not mounted can't be read.
    const mount = mountDevice(handles);
    const session = new DiskSession(new Device(handles), disk);
    let mounted = true;
    const release = () => {
      // Not by this thread: what ends with it may ask this thread for something.
      if (mounted) libc.closeElsewhere(mount);
      mounted = false;
    };
    serving.set(id, {
      release,
      stop: () => {
        session.stop();
        wakeDevice(handles);
      },
    });
    tell({ kind: "serving", id, mount });
    try {
      await session.run();
      return session.failure;
    } finally {
      serving.delete(id);
      release();
    }
  }

  for await (const message of decodeMessages<ToDisks>(Deno.stdin.readable)) {
    const { id } = message;
    if (message.kind === "release") serving.get(id)?.release();
    else if (message.kind === "stop") serving.get(id)?.stop();
    else {
      const end = serve(message).catch((thrown) => VarveError.from(thrown, "serve a disk to the kernel"))
        .then((error) => tell({ kind: "ended", id, error: error?.toMessage() ?? null }))
        .finally(() => ends.delete(end));
      ends.add(end);
    }
  }
  for (const each of serving.values()) each.release();
  const limit = setTimeout(() => Deno.exit(1), ORPHANED_MS_MAX);
  await Promise.all(ends);
  clearTimeout(limit);
  Deno.exit(0);
}

function tell(message: FromDisks): void {
  try {
    Deno.stdout.writeSync(encodeMessage(message));
  } catch (thrown) {
    // Whoever started this process is gone; what it has mounted is served on until that is gone too.
    if (!(thrown instanceof Deno.errors.BrokenPipe)) throw thrown;
  }
}

function mountDevice({ device }: DeviceHandles): number {
  using descriptors = new Descriptors();
  const options = [
    ["source", "varve"],
    ["fd", `${device}`],
    ["rootmode", ROOT_MODE],
    ["user_id", "0"],
    ["group_id", "0"],
  ] as const;
  const mount = newMount("fuse", { options, attributes: 0 }, descriptors);
  descriptors.release();
  return mount;
}

function partOf(device: BlockDevice, pieces: DiskPart["pieces"]): BaseDisk {
  return {
    sizeBytes: pieces.reduce((sum, { length }) => sum + length, 0),
    read: (offset, target) => readPieces(device, pieces, offset, target),
  };
}

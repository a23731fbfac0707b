/**
 * The engine's side of the mounted tree: mounts it, starts the thread that serves it, answers that thread's
 * questions, unmounts.
 *
 * Order at the start: the mount point is made ready; `/dev/fuse` is opened and mounted, which does not wait for
 * an answer; the Worker gets the descriptors and says when it agrees with the kernel. At the end: the mount is detached, so that no new
 * client comes in; the Worker serves those inside until they leave or the time is up; only then are the
 * descriptors closed, for a number that is closed too early may already stand for another file.
 *
 * This thread answers the serving thread's questions. So it must not make a synchronous call into the mount
 * either: both would wait for ever.
 *
 * @module
 */
import { VarveError } from "../src/base/errors.ts";
import type { Engine, PointInfo } from "../src/engine.ts";
import { closeDevice, type DeviceHandles, wakeDevice } from "./device.ts";
import type { FromWorker, PastPlace, Questions, ToWorker } from "./messages.ts";
import {
  attach,
  type Attached,
  detach,
  type MountPoint,
  prepareMountPoint,
  raiseReadAhead,
  removeMountPoint,
} from "./mount.ts";

/** Points asked for at a time. */
const POINTS_PAGE = 10_000;

/** Versions of one file, and deleted files of one folder, that are shown at most. */
const VERSIONS_MAX = 1000;
const DELETED_MAX = 10_000;

/** How long the serving thread has to leave its loop once it was told to, in milliseconds. */
const KILL_AFTER_MS = 1000;

/** What {@linkcode mountTree} takes. */
export interface MountTreeOptions {
  /** Folder to mount on; made if it is missing, and then removed at the end. */
  path: string;
  /** Answers what volumes, points and moments there are. */
  engine: Pick<
    Engine,
    "listVolumes" | "getVolume" | "listPoints" | "resolve" | "listFileVersions" | "listDeletedFiles"
  >;
  /** Says where the past of a volume at a sequence can be opened. */
  locate(volume: string, seq: number): Promise<PastPlace>;
  /**
   * Called at most once, when the tree is no longer served although nobody called `unmount`: with an error when
   * the serving thread failed, without when somebody else unmounted it. The mount point is clean by then.
   */
  onEnded?: (error: VarveError | undefined) => void;
  /**
   * Whether other users than this one see the tree, as far as the guest's modes let them. A user other than root needs
   * the permission of `/etc/fuse.conf` for that. Default false.
   */
  allowOther?: boolean;
  /** How long clients inside are served after `unmount`, in milliseconds; then they get ENOTCONN. Default 2,000. */
  graceMs?: number;
  /** Entry of the serving thread; tests have their own. */
  workerUrl?: URL;
}

/** A tree that is mounted. */
export interface MountedTree {
  /** Where, as an absolute path without symbolic links. */
  readonly path: string;
  /** Unmounts and ends the serving thread; further calls wait for the same end. */
  unmount(): Promise<void>;
}

/** Mounts the tree and resolves when it answers. Throws `forbidden`, `unsupported`, `conflict`, `invalid` or `io`. */
export async function mountTree(options: MountTreeOptions): Promise<MountedTree> {
  const point = await prepareMountPoint(options.path);
  const attached = await attachTo(point, options);
  const server = new TreeServer(options, point, attached);
  try {
    await server.ready;
  } catch (thrown) {
    await server.unmount();
    throw thrown;
  }
  await raiseReadAhead(attached);
  return server;
}

async function attachTo(point: MountPoint, { allowOther = false }: MountTreeOptions): Promise<Attached> {
  try {
    return await attach(point, { allowOther });
  } catch (thrown) {
    await removeMountPoint(point);
    throw thrown;
  }
}

class TreeServer implements MountedTree {
  readonly path: string;
  /** Resolves when the kernel and the serving thread agree, rejects when that fails. */
  readonly ready: Promise<void>;
  readonly #options: MountTreeOptions;
  readonly #point: MountPoint;
  readonly #handles: DeviceHandles;
  readonly #device: string;
  readonly #worker: Worker;
  readonly #ready = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  readonly #questions: Questions;
  #isReady = false;
  #unmounting: Promise<void> | undefined;

  constructor(options: MountTreeOptions, point: MountPoint, { handles, device }: Attached) {
    this.#options = options;
    this.#point = point;
    this.#handles = handles;
    this.#device = device;
    this.#questions = answersOf(options);
    this.path = point.path;
    this.ready = this.#ready.promise;
    // Whoever waits for it gets the rejection; after the start nobody does.
    this.ready.catch(() => {});
    this.#worker = new Worker(options.workerUrl ?? new URL("./worker.ts", import.meta.url), {
      type: "module",
      name: "fuse",
    });
    this.#worker.onmessage = (event: MessageEvent<FromWorker>) => this.#hear(event.data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#end(new VarveError("io", `Serve the mounted tree: ${event.message}`));
    };
    this.#say({ kind: "start", handles });
  }

  unmount(): Promise<void> {
    return this.#unmounting ??= this.#unmount();
  }

  async #unmount(): Promise<void> {
    try {
      await detach(this.path, this.#device);
    } finally {
      // Also of a tree that could not be taken away: it is dead then, and the next start clears it.
      await this.#serveOut();
    }
  }

  /** Serves those inside until they leave or the time is up. */
  async #serveOut(): Promise<void> {
    const graceMs = this.#options.graceMs ?? 2000;
    const stop = setTimeout(() => {
      this.#say({ kind: "stop" });
      wakeDevice(this.#handles);
    }, graceMs);
    // A guest's disk may keep the serving thread busy beyond any measure.
    const kill = setTimeout(() => this.#ended.resolve(), graceMs + KILL_AFTER_MS);
    await this.#ended.promise;
    clearTimeout(stop);
    clearTimeout(kill);
    await this.#cleanUp();
  }

  async #cleanUp(): Promise<void> {
    this.#worker.terminate();
    closeDevice(this.#handles);
    await removeMountPoint(this.#point);
  }

  #say(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #hear(message: FromWorker): void {
    switch (message.kind) {
      case "ask":
        this.#answer(message);
        break;
      case "ready":
        this.#isReady = true;
        this.#ready.resolve();
        break;
      case "ended":
        this.#end(message.error === undefined ? undefined : VarveError.fromMessage(message.error));
        break;
    }
  }

  async #answer({ id, method, parameters }: FromWorker & { kind: "ask" }): Promise<void> {
    try {
      const answer = this.#questions[method] as (...parameters: readonly unknown[]) => Promise<unknown>;
      this.#say({ kind: "answer", id, value: await answer(...parameters) });
    } catch (thrown) {
      const error = VarveError.from(thrown, `Answer the mounted tree (${method})`);
      this.#say({ kind: "answer", id, error: error.toMessage() });
    }
  }

  /** The serving thread has left its loop, or died in it. */
  #end(error: VarveError | undefined): void {
    this.#ready.reject(error ?? new VarveError("io", `Mount the tree on ${this.path}: it ended at once`));
    // A thread that died may have left its poll behind, which holds the device open.
    wakeDevice(this.#handles);
    this.#ended.resolve();
    if (this.#unmounting !== undefined) return;
    this.#unmounting = this.#endUnasked(error);
  }

  async #endUnasked(error: VarveError | undefined): Promise<void> {
    let found = error;
    try {
      await detach(this.path, this.#device);
      await this.#cleanUp();
    } catch (thrown) {
      found ??= VarveError.from(thrown, `Clean up after the tree on ${this.path}`);
    }
    if (this.#isReady) this.#options.onEnded?.(found);
  }
}

function answersOf({ engine, locate }: MountTreeOptions): Questions {
  return {
    listVolumes: () =>
      Promise.resolve(
        engine.listVolumes().map(({ name, sizeBytes, createdAt }) => ({ name, sizeBytes, createdAt })),
      ),
    listPoints: async (volume) => {
      const points: PointInfo[] = [];
      let cursor: string | undefined;
      do {
        const page = await engine.listPoints(volume, {
          kinds: ["created", "mark", "tier"],
          limit: POINTS_PAGE,
          ...(cursor === undefined ? {} : { cursor }),
        });
        points.push(...page.points);
        cursor = page.nextCursor;
      } while (cursor !== undefined);
      return points;
    },
    listMarksOf: async (volume, millisecond) => {
      const kinds: PointInfo["kind"][] = ["created", "mark"];
      return (await engine.listPoints(volume, { from: millisecond, to: millisecond, kinds })).points;
    },
    resolve: (volume, expression) => engine.resolve(volume, expression),
    describe: (volume) => Promise.resolve(engine.getVolume(volume)),
    versions: (volume, path) => engine.listFileVersions(volume, path, { limit: VERSIONS_MAX }),
    deleted: (volume, seq, path) =>
      engine.listDeletedFiles(volume, `seq:${seq}`, path, { limit: DELETED_MAX }),
    locate,
  };
}

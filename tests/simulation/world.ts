/**
 * The world around one engine: its disk, time and hosts, and what goes on between two of its deaths.
 */
import { crc32 } from "node:zlib";
import { type Appliance, openAppliance } from "../../src/appliance.ts";
import { SeededRandom } from "../../src/base/seeded_random.ts";
import { SimulatedDisk, type SimulatedDiskOptions } from "../../src/disk/mod.ts";
import type { Caller } from "../../src/engine.ts";
import type { ExportProvider } from "../../src/nbd/exports.ts";
import { NbdError } from "../../src/nbd/protocol.ts";
import { NbdServer } from "../../src/nbd/server.ts";
import { LiveVolume } from "../../src/volume/live_volume.ts";
import { checksumOf, type SentRequest, SimulatedClient } from "./client.ts";
import { ObservedDevice } from "./observer.ts";
import type { Subject } from "./subject.ts";
import { settle, VirtualTime } from "./virtual_time.ts";
import { LifeEnded, Violation } from "./violation.ts";

/** The data folder on the simulated disk. */
export const DATA_PATH = "/data";
/** A directory at the top that never gets full. */
export const OTHER_FILE_SYSTEM = "disks";
/** Who orders what the simulation orders. */
export const CALLER: Caller = { name: "simulation" };

/** Nothing takes so many events. */
const EVENTS_MAX = 200_000;

/** A connection to a live volume or to its past. */
export interface OpenConnection {
  readonly client: SimulatedClient;
  readonly subject: Subject;
  /** The moment it shows, or `undefined` for the live volume. */
  readonly seq: number | undefined;
}

/** Disk, time, hosts and the engine of the present life. */
export class World implements Disposable {
  readonly random: SeededRandom;
  readonly time: VirtualTime;
  readonly disk: SimulatedDisk;
  readonly subjects: Subject[];
  connections: OpenConnection[] = [];
  /** The last things that happened, for people who look for the cause of a violation. */
  readonly recent: string[] = [];
  /** Grows with each life: what an earlier one still has to say counts for nothing. */
  life = 0;
  /** Whether failures were ordered in this life: hosts may then be refused. */
  faulty = false;
  /** Databases are missing that only a rebuild makes anew. */
  mustRebuild = false;
  /** After so many events the power is cut. */
  eventsUntilCut = Infinity;
  /** Segments that were given their compressed form so far. */
  compressed = 0;
  readonly #segmentBytes: number;
  readonly #batchRecords: number;
  readonly #compressionMs: number;
  readonly #baselineBytesPerSecond: number;
  readonly #engineRandom: SeededRandom;
  #violation: Violation | undefined;
  #appliance: Appliance | undefined;
  #server: NbdServer | undefined;
  /** Whether the engine is being stopped: hosts may then be told so. */
  #isClosing = false;
  #trace = 0;
  #peers = 0;
  readonly #clients = new Map<string, OpenConnection>();

  constructor(seed: number, subjects: Subject[], truth?: SimulatedDiskOptions["truth"]) {
    this.random = new SeededRandom(seed);
    this.#batchRecords = seed % 3 === 0 ? 16_384 : seed % 3 === 1 ? 64 : 5;
    this.time = new VirtualTime(this.random.fork());
    this.subjects = subjects;
    this.#segmentBytes = this.random.pick([1 << 16, 1 << 18, 1 << 20, 1 << 22]);
    this.#compressionMs = this.random.pick([2, 20, 200]);
    this.#baselineBytesPerSecond = this.random.pick([1 << 17, 1 << 20, 1 << 24]);
    this.#engineRandom = this.random.fork();
    this.disk = new SimulatedDisk({
      random: this.random.fork(),
      scheduler: this.time,
      otherFileSystem: OTHER_FILE_SYSTEM,
      ...(truth === undefined ? {} : { truth }),
    });
    const opened = new Set<string>();
    this.disk.onOperation = (what, place) => {
      this.#trace = crc32(`${what} ${place}`, this.#trace);
      // A prune renames too, but only to names that nobody has opened.
      if (what === "open") opened.add(place);
      else if (what === "rename" && place.endsWith(".seg.tmp") && opened.has(place.slice(0, -4))) {
        this.compressed++;
      }
    };
  }

  /** A number that two runs share only when they did the same. */
  get traceHash(): string {
    return `${this.#trace.toString(16).padStart(8, "0")}-${this.disk.operations}-${this.time.ran}`;
  }

  /** The engine. */
  get appliance(): Appliance {
    if (this.#appliance === undefined) throw new Error("the engine is not running");
    return this.#appliance;
  }

  /** Notes what happens. */
  note(text: string): void {
    this.#trace = crc32(text, this.#trace);
    this.recent.push(text);
    if (this.recent.length > 60) this.recent.shift();
  }

  /** A promise is broken. */
  violate(text: string): never {
    throw new Violation(text);
  }

  #throwViolation(): void {
    if (this.#violation !== undefined) throw this.#violation;
  }

  /** Notes a violation that was found where it cannot be thrown, unless the life in which it was found is over. */
  noteViolation(text: string, life: number): void {
    if (this.disk.powered && life === this.life) this.#violation ??= new Violation(text);
  }

  /** Throws when this life is over. */
  checkLife(): void {
    this.#throwViolation();
    if (!this.disk.powered) throw new LifeEnded("the power is cut");
  }

  /** Lets one event happen; false when nothing is left that could. */
  async turn(): Promise<boolean> {
    this.checkLife();
    if (--this.eventsUntilCut <= 0) {
      this.eventsUntilCut = Infinity;
      this.note("power cut between two events");
      this.disk.cutPower();
    }
    this.checkLife();
    const ran = await this.time.runNext();
    this.checkLife();
    return ran;
  }

  /** Lets events happen until the work has ended, and tells its outcome. */
  async until<T>(tried: string, work: Promise<T>): Promise<T> {
    let outcome: { value: T } | { thrown: unknown } | undefined;
    work.then((value) => outcome = { value }, (thrown) => outcome = { thrown });
    await settle();
    for (let events = 0; outcome === undefined; events++) {
      if (events > EVENTS_MAX) this.violate(`${tried}: it has not ended after ${EVENTS_MAX} events`);
      if (!await this.turn()) this.violate(`${tried}: nothing is left to happen, and it has not ended`);
    }
    this.checkLife();
    if ("thrown" in outcome) throw outcome.thrown;
    return outcome.value;
  }

  /** Starts the engine. */
  async start(): Promise<void> {
    this.faulty = false;
    this.#isClosing = false;
    this.disk.capacityBytes = Infinity;
    const appliance = await this.until(
      "start the appliance",
      openAppliance({
        dataPath: DATA_PATH,
        zone: "UTC",
        disk: this.disk,
        clock: this.time,
        scheduler: this.time,
        random: (length) => this.#engineRandom.bytes(length),
        segmentBytes: this.#segmentBytes,
        batchRecords: this.#batchRecords,
        scrub: { everyMs: false },
        compression: { intervalMs: this.#compressionMs, coreShare: 1, bytesPerSecond: Infinity },
        baselineBytesPerSecond: this.#baselineBytesPerSecond,
      }),
    );
    this.#appliance = appliance;
    this.#server = new NbdServer({ exports: this.#observe(appliance.nbdExports), scheduler: this.time });
  }

  #observe(exports: ExportProvider): ExportProvider {
    return {
      list: () => exports.list(),
      open: async (name, client) => {
        const opened = await exports.open(name, client);
        const connection = this.#clients.get(client.peer);
        if (opened === undefined || connection === undefined || !(opened.device instanceof LiveVolume)) {
          return opened;
        }
        const { subject } = connection;
        return {
          ...opened,
          device: new ObservedDevice(opened.device, {
            client: connection.client,
            subject,
            world: this,
          }),
          close: () => opened.close(),
        };
      },
    };
  }

  /** Whether the first copy of an adopted disk is still being made: nothing of the past can be opened then. */
  isCopying(subject: Subject): boolean {
    return !this.appliance.getVolume(subject.name).baseline.complete;
  }

  /** The live device itself. */
  async live(subject: Subject): Promise<LiveVolume> {
    const opened = await this.until("open the live volume", this.#open(subject.name));
    if (!(opened instanceof LiveVolume)) this.violate(`${subject.name}: there is no live volume`);
    return opened;
  }

  /** A device straight from the engine; the export is closed at once, which devices do not mind. */
  async #open(name: string): Promise<unknown> {
    const opened = await this.appliance.nbdExports.open(name, { peer: "" });
    await opened?.close();
    return opened?.device;
  }

  /** Connects a host; tells why it was refused, if it was. */
  async connect(subject: Subject, seq?: number): Promise<OpenConnection | string> {
    const { life } = this;
    const peer = `host-${++this.#peers}`;
    const client = new SimulatedClient(seq === undefined ? subject.name : `${subject.name}@seq:${seq}`, {
      peer,
      scheduler: this.time,
      random: this.random.fork(),
      onReply: (request, error, data) => {
        if (this.disk.powered && life === this.life) this.#onReply(connection, request, error, data);
      },
      onNonsense: (text) => this.noteViolation(text, life),
    });
    const connection: OpenConnection = { client, subject, seq };
    this.#clients.set(peer, connection);
    const opened = client.opened();
    this.#server?.serve(client.transport).catch((thrown) => this.noteViolation(String(thrown), life));
    const refusal = await this.until("connect a host", opened);
    if (refusal !== undefined) return refusal;
    this.connections.push(connection);
    return connection;
  }

  #onReply({ subject, seq }: OpenConnection, request: SentRequest, error: number, data: Uint8Array): void {
    const { change } = request;
    const complain = (text: string) => this.noteViolation(`${subject.name}: ${text}`, this.life);
    this.#trace = crc32(`${change.kind} ${error}`, this.#trace);
    if (error !== 0) {
      const dropped = seq !== undefined && (!subject.retains(seq) || subject.prune !== undefined);
      const isTooLate = this.#isClosing && error === NbdError.ESHUTDOWN;
      if (!this.faulty && !dropped && !isTooLate) {
        complain(`${change.kind} was answered with error ${error}`);
      }
      return;
    }
    if (change.kind === "read") {
      const found = seq !== undefined
        ? subject.model.difference(data, change.offset, seq)
        : checksumOf(data) === request.checksum
        ? undefined
        : "the bytes changed on their way to the host";
      if (found !== undefined) complain(`a read at ${seq ?? "now"} is wrong: ${found}`);
      return;
    }
    if (request.order === undefined) {
      complain(`${change.kind} was acknowledged and never executed`);
      return;
    }
    const { seq: givenSeq = 0, order } = request;
    subject.answeredSeq = Math.max(subject.answeredSeq, givenSeq);
    subject.answeredOrder = Math.max(subject.answeredOrder, order);
    if (request.fua || change.kind === "flush") {
      subject.durableSeq = Math.max(subject.durableSeq, givenSeq);
      subject.durableOrder = Math.max(subject.durableOrder, order);
    }
  }

  /** Stops the engine in order. */
  async close(): Promise<void> {
    const server = this.#server;
    const appliance = this.appliance;
    this.#isClosing = true;
    if (server !== undefined) await this.until("close the NBD server", server.close({ graceMs: 50 }));
    await this.until("close the appliance", appliance.close());
    this.#forget();
  }

  /** The process is gone, one way or the other; brings power back when it was cut. */
  async endLife(): Promise<void> {
    for (const subject of this.subjects) {
      const { prune } = subject;
      subject.heldFrom = undefined;
      // What the storage has refused to keep may be gone with the process that knew of it.
      if (subject.state === "there" && this.#isPrimaryInDoubt(subject)) subject.answeredOrder = 0;
      if (prune !== undefined) prune.latestUs = Math.max(prune.latestUs, this.time.nowUs());
    }
    if (this.disk.powered) this.disk.killProcess();
    this.#forget();
    await settle();
    this.time.clear();
    this.disk.restorePower();
  }

  #isPrimaryInDoubt(subject: Subject): boolean {
    return this.disk.isInDoubt(subject.adoptedPath ?? `${DATA_PATH}/volumes/${subject.id}/primary.img`);
  }

  #forget(): void {
    this.life++;
    for (const { client } of this.connections) client.drop();
    this.connections = [];
    this.#clients.clear();
    this.time.clear();
    this.#appliance = undefined;
    this.#server = undefined;
    this.eventsUntilCut = Infinity;
  }

  [Symbol.dispose](): void {
    this.disk[Symbol.dispose]();
  }
}

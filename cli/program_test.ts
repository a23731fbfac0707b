import assert from "node:assert/strict";
import { serveApi } from "../api/mod.ts";
import { cleanScrub, FakeEngine, fakeScrub, MOTD } from "../api/testing/fake_engine.ts";
import { VarveError } from "../src/base/errors.ts";
import type { JobInfo, ScrubResult } from "../src/engine.ts";
import { run } from "./program.ts";
import type { Terminal } from "./terminal.ts";

const { test } = Deno;

/** One appliance that is none, on a Unix socket, and what a run of the command line leaves behind. */
class Scene implements AsyncDisposable {
  readonly engine = new FakeEngine();
  readonly folder = Deno.makeTempDirSync();
  readonly api = `unix:${this.folder}/api.sock`;
  out = "";
  err = "";
  interrupt: (() => void) | undefined;
  #server: { close(): Promise<void> } | undefined;

  async start(): Promise<this> {
    this.#server = await serveApi({ engine: this.engine, listen: [this.api] });
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.close();
    await Deno.remove(this.folder, { recursive: true });
  }

  /** Runs a command; resolves to its exit code. */
  async run(...args: string[]): Promise<number> {
    this.out = "";
    this.err = "";
    const terminal: Terminal = {
      out: (text) => void (this.out += text),
      err: (text) => void (this.err += text),
      copyOut: async (bytes) => void (this.out += await new Response(bytes).text()),
      isInteractive: false,
      env: (name) => name === "VARVE_API" ? this.api : undefined,
      onInterrupt: (callback) => {
        this.interrupt = callback;
        return { stop: () => this.interrupt = undefined };
      },
    };
    return await run(args, terminal);
  }

  /** Runs a command that is to succeed; resolves to what it printed. */
  async print(...args: string[]): Promise<string> {
    const code = await this.run(...args);
    assert.equal(code, 0, this.err);
    assert.equal(this.err, "");
    return this.out;
  }
}

test("varve status shows the appliance and its volumes in columns", async () => {
  await using scene = await new Scene().start();
  const text = await scene.print("status");
  assert.match(text, /^mounted at +\/varve$/m);
  assert.match(text, /^storage +512 GiB of 1 TiB free$/m);
  assert.match(text, /^NAME +SIZE +STATE +HISTORY +MARKS +WINDOW FROM +WINDOW TO$/m);
  assert.match(
    text,
    /^db +1 GiB +ready +11\.8 MiB +0 +2026-11-22T09:00:00\.000000Z +2026-11-22T10:15:00\.000000Z$/m,
  );
});

test("varve status says how it stands with the space", async () => {
  await using scene = await new Scene().start();
  const status = scene.engine.status();
  const tell = async (state: "low" | "full") => {
    scene.engine.status = () => ({ ...status, storage: { ...status.storage, state } });
    return await scene.print("status");
  };
  assert.match(await tell("low"), /^storage .*free, low: the watermark is 51\.2 GiB, the oldest/m);
  assert.match(await tell("full"), /^storage .*free, full: writes are refused; /m);
});

test("varve events lists what happened, oldest first", async () => {
  await using scene = await new Scene().start();
  const text = await scene.print("events", "--after", "1");
  assert.match(
    text,
    /^ID +TIME +LEVEL +KIND +VOLUME +MESSAGE\n 2 .*\n 3 +\S+ +warning +history\.thinned +db +space is short: step 3\n$/,
  );
  assert.deepEqual(JSON.parse(await scene.print("events", "--limit", "1", "--json")), {
    events: scene.engine.listEvents({ limit: 1 }),
  });
});

test("--json prints the answer of the API", async () => {
  await using scene = await new Scene().start();
  assert.deepEqual(JSON.parse(await scene.print("status", "--json")), scene.engine.status());
  assert.deepEqual(JSON.parse(await scene.print("volume", "list", "--json")), {
    volumes: scene.engine.listVolumes(),
  });
  assert.deepEqual(
    JSON.parse(await scene.print("volume", "show", "db", "--json")),
    scene.engine.getVolume("db"),
  );
  assert.equal(await scene.print("volume", "delete", "db", "--json"), "");
});

test("varve volume resizes, and lists who changed it", async () => {
  await using scene = await new Scene().start();
  assert.match(
    await scene.print("volume", "resize", "db", "--size", "2G"),
    /^size +2 GiB \(2147483648 bytes\)$/m,
  );
  assert.match(
    await scene.print("volume", "clients", "db"),
    /^CLIENT +PEER +PID +UID +CERTIFICATE +OPENED +NOW\n +2 +unix +7 +0 +\S+ +connected\n +1 +unix/,
  );
});

test("varve volume creates, adopts, shows and deletes", async () => {
  await using scene = await new Scene().start();
  assert.match(
    await scene.print("volume", "create", "a", "--size", "1.5G"),
    /^size +1\.5 GiB \(1610612736 bytes\)$/m,
  );
  await scene.print("volume", "create", "b", "--size", "4096", "--primary", "b.raw");
  assert.deepEqual(scene.engine.audit.at(-1)?.details, {
    name: "b",
    sizeBytes: 4096,
    primary: { path: `${Deno.cwd()}/b.raw` },
  });
  await scene.print("volume", "adopt", "c", "--primary", "/dev/sdb");
  assert.deepEqual(scene.engine.audit.at(-1)?.details, {
    name: "c",
    primary: { path: "/dev/sdb", adopt: true },
  });
  assert.match(await scene.print("volume", "delete", "a", "--purge"), /Deleted volume a/);
  assert.deepEqual(scene.engine.audit.at(-1)?.details, { purge: true });
  assert.deepEqual([...scene.engine.volumes.keys()], ["db", "b", "c"]);
});

test("varve mark names the moment", async () => {
  await using scene = await new Scene().start();
  const text = await scene.print("mark", "db", "v1", "--pin", "--note", "before");
  assert.equal(text, "Marked db as v1 at 2026-11-22T10:15:00.000000Z (seq:40), pinned.\n");
  assert.equal(scene.engine.marks.get("db/v1")?.note, "before");
});

test("varve points goes through every page, or as far as the limit", async () => {
  await using scene = await new Scene().start();
  for (let i = 0; i < 1500; i++) await scene.engine.createMark("db", { name: `m${i}` }, { name: "unix" });
  const lines = (await scene.print("points", "db")).trimEnd().split("\n");
  assert.equal(lines.length, 1 + 1501);
  assert.match(lines[1] ?? "", /^2026-11-22T09:00:00\.000000Z +0 +created$/);
  assert.match(lines.at(-1) ?? "", /^2026-11-22T10:15:00\.000000Z +40 +mark +m1499$/);
  const page = JSON.parse(await scene.print("points", "db", "--limit", "1200", "--json"));
  assert.deepEqual([page.points.length, page.nextCursor], [1200, "1200"]);
  await scene.print(
    "points",
    "db",
    "--from",
    "2 hours ago",
    "--to",
    "now",
    "--kind",
    "mark",
    "--kind",
    "tier",
  );
  assert.deepEqual(scene.engine.pointsAsked, {
    cursor: "1000",
    from: "2 hours ago",
    to: "now",
    kinds: ["mark", "tier"],
    limit: 1000,
  });
});

test("varve ls lists a directory, and a file by itself", async () => {
  await using scene = await new Scene().start();
  const lines = (await scene.print("ls", "db", "--at", "now")).split("\n");
  assert.match(lines[0] ?? "", /^MODE +LINKS +UID +GID +SIZE +MODIFIED +NAME$/);
  assert.match(lines[1] ?? "", /^-rw-r--r-- +1 +0 +1000 +21 +2026-11-22T10:00:00\.123456789Z +motd$/);
  assert.match(lines[2] ?? "", /^lrw-r--r-- .* motd -> \/etc\/motd$/);
  assert.match(await scene.print("ls", "db", "etc/motd", "--at", "now"), / motd\n$/);
});

test("varve cat writes the bytes and nothing else", async () => {
  await using scene = await new Scene().start();
  assert.equal(await scene.print("cat", "db", "etc/motd", "--at", "now"), MOTD);
});

test("varve versions lists versions and times without the file", async () => {
  await using scene = await new Scene().start();
  const lines = (await scene.print("versions", "db", "etc/motd")).split("\n");
  assert.match(lines[0] ?? "", /^FROM +SEQ +UNTIL +MODE +SIZE +MODIFIED +WHAT$/);
  assert.match(lines[1] ?? "", /seq:40 .* -rw-r--r-- +21 .* content$/);
  assert.match(lines[2] ?? "", /seq:0 .* absent$/);
  const limited = await scene.print("versions", "db", "etc/motd", "--limit", "1");
  assert.match(limited, /There may be older versions/);
  assert.equal(JSON.parse(await scene.print("versions", "db", "etc/motd", "--json")).versions.length, 2);
});

test("varve ls --deleted lists what a directory held before", async () => {
  await using scene = await new Scene().start();
  const text = await scene.print("ls", "db", "/etc", "--at", "now", "--deleted");
  assert.match(text, /^LAST SEEN +AT +MODE +SIZE +NAME\nseq:0 .* 7 +lost\n$/);
});

test("varve diff tells blocks, however many pages, or files", async () => {
  await using scene = await new Scene().start();
  const args = ["diff", "db", "--from", "now", "--to", "now"];
  const blocks = await scene.print(...args);
  assert.match(blocks, /^OFFSET +LENGTH\n +0 +4096\n +65536 +8192\n2 runs, 12288 bytes\n$/);
  assert.match(await scene.print(...args, "--limit", "1"), /1 run, 4096 bytes, and there are more\n$/);
  assert.equal(await scene.print(...args, "--files"), "A  /etc/new\nD  /etc/old\nR  /etc/a -> /etc/b\n");
  assert.match(await scene.print(...args, "--files", "--limit", "1"), /^A .*\nThere is more/);
});

test("varve recover follows the job and prints the result", async () => {
  await using scene = await new Scene().start();
  const result = {
    time: "2026-11-22T10:15:00.000000Z",
    seq: 40,
    target: "/t",
    sizeBytes: 1024,
    writtenBytes: 512,
    sha256: "ab",
    verified: true,
    durationMs: 1234,
  };
  const done = scene.run("recover", "db", "--at", "now", "--to", "disk.img", "--verify");
  await until(() => scene.engine.watchers.get("j1")?.size === 1);
  scene.engine.changeJob("j1", { state: "succeeded", result });
  assert.equal(await done, 0);
  assert.match(scene.out, /^Recovered db at 2026-11-22T10:15:00\.000000Z \(seq:40\) to \/t$/m);
  assert.match(scene.out, /^verified +yes/m);
  assert.deepEqual(scene.engine.audit.at(-1)?.details, {
    at: "now",
    target: `${Deno.cwd()}/disk.img`,
    verify: true,
  });
});

test("varve recover fails with the job", async () => {
  await using scene = await new Scene().start();
  const done = scene.run("recover", "db", "--at", "now", "--to", "/t");
  await until(() => scene.engine.watchers.get("j1")?.size === 1);
  scene.engine.changeJob("j1", {
    state: "failed",
    error: { code: "no-space", detail: "Writing /t: it is full" },
  });
  assert.equal(await done, 1);
  assert.equal(scene.err, "varve: Writing /t: it is full\n");
});

test("Ctrl-C cancels a recovery", async () => {
  await using scene = await new Scene().start();
  const done = scene.run("recover", "db", "--at", "now", "--to", "/t");
  await until(() => scene.engine.watchers.get("j1")?.size === 1);
  scene.interrupt?.();
  assert.equal(await done, 1);
  assert.equal(scene.engine.getJob("j1").state, "cancelled");
  assert.match(scene.err, /cancelled/);
});

test("--no-wait leaves the job running", async () => {
  await using scene = await new Scene().start();
  assert.equal(
    await scene.print("recover", "db", "--at", "now", "--to", "/t", "--no-wait"),
    "Started job j1.\n",
  );
  assert.equal(JSON.parse(await scene.print("retention", "prune", "db", "--no-wait", "--json")).id, "j2");
});

test("varve retention sets, shows and previews a policy", async () => {
  await using scene = await new Scene().start();
  const set = ["retention", "set", "db", "--continuous", "12h", "--tier", "1h:7d", "--tier", "1d:30d"];
  await scene.print(...set, "--max-bytes", "10G", "--grace", "1h", "--on-full", "passthrough");
  const policy = {
    continuous: "12h",
    tiers: [{ every: "1h", for: "7d" }, { every: "1d", for: "30d" }],
    maxBytes: 10 * 1024 ** 3,
    grace: "1h",
    onFull: "passthrough",
  };
  assert.deepEqual(scene.engine.retention, policy);
  assert.match(await scene.print("retention", "get", "db"), /^tier +every 1d for 30d$/m);
  await Deno.writeTextFile(`${scene.folder}/policy.json`, JSON.stringify({ continuous: "1h", tiers: [] }));
  await scene.print("retention", "set", "db", "--file", `${scene.folder}/policy.json`);
  assert.deepEqual(scene.engine.retention, { continuous: "1h", tiers: [] });
  assert.match(
    await scene.print("retention", "preview", "db"),
    /^Would drop 0 points \(7 moments\), 8 KiB freed\.$/m,
  );
  const other = await scene.print("retention", "preview", "db", "--continuous", "1h", "--tier", "1h:1d");
  assert.match(other, /^Would drop 1 point /m);
});

test("varve retention prune waits for its job", async () => {
  await using scene = await new Scene().start();
  const done = scene.run("retention", "prune", "db");
  await until(() => scene.engine.watchers.get("j1")?.size === 1);
  const result = { ...await scene.engine.previewRetention("db") };
  scene.engine.changeJob("j1", { state: "succeeded", result });
  assert.equal(await done, 0);
  assert.match(scene.out, /^Dropped 1 point /);
});

test("varve scrub says that all is whole, or shows the damage and fails", async () => {
  await using scene = await new Scene().start();
  const end = async (job: string, scrub: ScrubResult) => {
    await until(() => scene.engine.watchers.get(job)?.size === 1);
    scene.engine.changeJob(job, { state: "succeeded", result: { ...scrub } });
  };
  const clean = scene.run("scrub", "db", "--rate", "10M");
  await end("j1", cleanScrub());
  assert.equal(await clean, 0);
  assert.equal(scene.out, "db: 11.8 MiB checked, no damage\n");
  assert.deepEqual(scene.engine.scrubAsked, { rateBytes: 10 * 1024 * 1024 });

  const damaged = scene.run("scrub", "db");
  await end("j2", fakeScrub());
  assert.equal(await damaged, 1);
  assert.match(scene.out, /^db: 11\.8 MiB checked, 2 damaged places$/m);
  assert.match(scene.out, /^segments\/000000000007\.seg +4196 +4096 +12 +1 +the checksum of a block does/m);
  assert.match(scene.out, /\(no kept moment sees it\)$/m);
  assert.match(scene.out, /^2026-11-22T10:15:00\.000000Z +40 +mark +before$/m);
  assert.equal(
    scene.err,
    "varve: scrub: db has 2 damaged places and 1 damaged point\nWrite those blocks again.\n",
  );
});

test("varve scrub without a volume scrubs them all, and --json prints the jobs", async () => {
  await using scene = await new Scene().start();
  await scene.print("volume", "create", "mail", "--size", "1M");
  const both = scene.run("scrub", "--json");
  for (const [job, result] of [["j1", cleanScrub()], ["j2", fakeScrub()]] as const) {
    await until(() => scene.engine.watchers.get(job)?.size === 1);
    scene.engine.changeJob(job, { state: "succeeded", result: { ...result } });
  }
  assert.equal(await both, 1);
  const { jobs } = JSON.parse(scene.out);
  assert.deepEqual(jobs.map((job: JobInfo) => [job.volume, job.result?.["damagedPlaces"]]), [["db", 0], [
    "mail",
    2,
  ]]);
  assert.equal(JSON.parse(scene.err).code, "damaged");
  scene.engine.finishScrub("db", fakeScrub());
  assert.match(
    await scene.print("volume", "show", "db"),
    /^scrubbed +2026-11-22T10:15:00\.000000Z: 2 damaged places, 1 damaged point$/m,
  );
});

test("varve token makes, lists and revokes", async () => {
  await using scene = await new Scene().start();
  const made = await scene.print("token", "create", "backup", "--scope", "read", "--scope", "operate");
  assert.match(made, /^token +secret-backup$/m);
  assert.match(await scene.print("token", "list"), /^t1 +backup +read operate +2026-/m);
  await scene.print("token", "revoke", "t1");
  assert.equal(scene.engine.tokens.size, 0);
});

test("a token goes along over TCP, from an option or a file", async () => {
  await using scene = await new Scene().start();
  const { token } = scene.engine.createToken({ name: "reader", scopes: ["read"] });
  const server = await serveApi({ engine: scene.engine, listen: ["127.0.0.1:0"] });
  const api = server.addresses[0] ?? "";
  assert.equal(await scene.run("volume", "list", "--api", api), 1);
  assert.match(scene.err, /^varve: Reading the Authorization header: found none\n/);
  await scene.print("volume", "list", "--api", `http://${api}/`, "--token", token);
  await Deno.writeTextFile(`${scene.folder}/token`, `${token}\n`);
  await scene.print("volume", "list", "--api", api, "--token-file", `${scene.folder}/token`);
  assert.equal(await scene.run("volume", "delete", "db", "--api", api, "--token", token), 1);
  assert.match(scene.err, /Use a token with the scope admin/);
  await server.close();
});

test("a refusal is told with its hint and the moments around, and exits 1", async () => {
  await using scene = await new Scene().start();
  scene.engine.nextFailure = new VarveError("not-found", "Looking for volume x: there is none", {
    hint: "Try db.",
  });
  assert.equal(await scene.run("volume", "show", "x"), 1);
  assert.deepEqual([scene.out, scene.err], ["", "varve: Looking for volume x: there is none\nTry db.\n"]);
  assert.equal(await scene.run("ls", "db", "--at", "2001-01-01T00:00:00Z"), 1);
  assert.match(scene.err, /^ +newer +2026-11-22T09:00:00\.000000Z \(seq:0\)$/m);
});

test("with --json a refusal is the problem document", async () => {
  await using scene = await new Scene().start();
  assert.equal(await scene.run("ls", "db", "--at", "2001-01-01T00:00:00Z", "--json"), 1);
  const problem = JSON.parse(scene.err);
  assert.deepEqual([problem.status, problem.code, problem.newer.seq], [410, "not-retained", 0]);
});

test("an appliance that does not answer is told with its address, and exits 1", async () => {
  await using scene = new Scene();
  assert.equal(await scene.run("status"), 1);
  assert.match(
    scene.err,
    /^varve: Connecting to unix:.*api\.sock: No such file or directory.*\nIs the appliance running\?/,
  );
  assert.equal(await scene.run("status", "--json"), 1);
  assert.equal(JSON.parse(scene.err).code, "io");
});

test("something else that answers is told as such", async () => {
  await using scene = new Scene();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => {
    return new Response("<h1>no</h1>", { status: 502 });
  });
  assert.equal(await scene.run("status", "--api", `127.0.0.1:${server.addr.port}`), 1);
  assert.match(scene.err, /answered 502 without a problem document/);
  await server.shutdown();
});

test("wrong usage exits 2 and names what is wrong", async () => {
  await using scene = new Scene();
  const cases: [args: string, told: RegExp][] = [
    ["nonsense", /unknown command 'nonsense'/],
    ["mark db", /missing required argument 'name'/],
    ["status extra", /too many arguments/],
    ["status --verbose", /unknown option '--verbose'/],
    ["ls db", /required option '--at <time>' not specified/],
    [
      "volume create a --size big",
      /'--size <size>' argument 'big' is invalid.*Write a whole number of bytes/s,
    ],
    ["points db --kind odd", /Write one of: created, mark, flush, tier/],
    ["points db --limit 0", /Write a whole number from 1 on/],
    ["retention set db", /give --continuous or --file/],
    ["retention set db --continuous 1h --tier 1h", /Write EVERY:FOR/],
    ["retention set db --continuous long", /Write a number with a unit/],
    ["token create a --scope root", /Write one of: read, operate, admin/],
    ["volume", /Usage: varve volume/],
  ];
  for (const [args, told] of cases) {
    assert.equal(await scene.run(...args.split(" ")), 2, args);
    assert.match(scene.err, told);
    assert.equal(scene.out, "");
  }
});

test("a policy file that cannot be read exits 1", async () => {
  await using scene = await new Scene().start();
  assert.equal(await scene.run("retention", "set", "db", "--file", `${scene.folder}/none`), 1);
  assert.match(scene.err, /^varve: Reading the policy file /);
  await Deno.writeTextFile(`${scene.folder}/bad`, "{");
  assert.equal(await scene.run("retention", "set", "db", "--file", `${scene.folder}/bad`), 1);
});

test("--help and --version go to standard output and exit 0", async () => {
  await using scene = new Scene();
  assert.match(await scene.print("--version"), /^\d+\.\d+\.\d+\n$/);
  assert.match(await scene.print("--help"), /^Usage: varve /);
  const commands = [
    ...["serve", "status", "mark", "points", "ls", "cat", "versions", "diff", "recover"].map((
      name,
    ) => [name]),
    ...["create", "adopt", "list", "show", "delete"].map((name) => ["volume", name]),
    ...["get", "set", "preview", "prune"].map((name) => ["retention", name]),
    ["scrub"],
    ...["create", "list", "revoke"].map((name) => ["token", name]),
  ];
  for (const command of commands) {
    const help = await scene.print(...command, "--help");
    assert.ok(help.includes(`\nExample:\n  varve ${command.join(" ")}`), help);
    assert.match(help, /--json/);
  }
});

test("the command line runs as a program", async () => {
  const command = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--no-check",
      new URL("main.ts", import.meta.url).pathname,
      "status",
      "--api",
      "unix:/nowhere/s",
    ],
  });
  const { code, stdout, stderr } = await command.output();
  assert.equal(code, 1);
  assert.equal(new TextDecoder().decode(stdout), "");
  assert.match(new TextDecoder().decode(stderr), /^varve: Connecting to unix:\/nowhere\/s: /);
});

/** Lets other work go on until something has come true. */
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 1));
}

test("varve clone makes a moment writable and says how to connect", async () => {
  await using scene = await new Scene().start();
  const text = await scene.print("clone", "db", "db-test", "--at", "now", "--budget", "2G", "--ttl", "8h");
  assert.match(text, /^clone of +db$/m);
  assert.match(text, /^written +8 KiB of at most 2 GiB$/m);
  assert.match(text, /^Connect to nbd\+unix:\/\/\/db-test\?socket=\/run\/varve\/nbd\.sock$/m);
  assert.deepEqual(scene.engine.audit.at(-1)?.details, {
    volume: "db",
    at: "now",
    name: "db-test",
    budgetBytes: 2 ** 31,
    ttl: "8h",
  });
  const clone = JSON.parse(await scene.print("clone", "db", "c", "--at", "now", "--ttl", "never", "--json"));
  assert.equal("expiresAt" in clone, false);
  assert.equal(await scene.run("clone", "db", "d", "--at", "now", "--ttl", "soon"), 2);
  assert.match(scene.err, /Or: never\./);
});

test("varve clones lists, shows, deletes and promotes", async () => {
  await using scene = await new Scene().start();
  await scene.print("clone", "db", "c", "--at", "now");
  for (const args of [["clones"], ["clones", "list"]]) {
    assert.match(await scene.print(...args), /^c +db +\S+Z +1 GiB +8 KiB +10 GiB +ready +2026-11-23T/m);
  }
  assert.deepEqual(JSON.parse(await scene.print("clones", "--json")), { clones: scene.engine.listClones() });
  assert.match(await scene.print("clones", "show", "c"), /^state +ready$/m);
  assert.deepEqual(
    JSON.parse(await scene.print("clones", "show", "c", "--json")),
    scene.engine.getClone("c"),
  );
  assert.match(await scene.print("clones", "promote", "c", "db2", "--no-wait"), /^Started job j1\.\n$/);
  const running = scene.run("clones", "promote", "c", "db3");
  while (!scene.engine.jobs.has("j2")) await new Promise((resolve) => setTimeout(resolve, 5));
  const result = { clone: "c", volume: "db3", sizeBytes: 2 ** 30, writtenBytes: 4096, durationMs: 1500 };
  scene.engine.changeJob("j2", { state: "succeeded", result });
  assert.equal(await running, 0);
  assert.match(scene.out, /^Made volume db3 of clone c\nsize +1 GiB, 4 KiB written\n/);
  assert.equal(await scene.print("clones", "delete", "c"), "Deleted clone c.\n");
  assert.equal(await scene.run("clones", "show", "c"), 1);
});

import assert from "node:assert/strict";
import { METRICS_TYPE, renderMetrics } from "./metrics.ts";
import { FakeEngine, fakeScrub } from "./testing/fake_engine.ts";
import { Harness } from "./testing/harness.ts";

const { test } = Deno;

test("metrics are text of the exposition format, every sample announced by its type", async () => {
  const answer = await new Harness().call("GET", "/metrics");
  assert.equal(answer.headers.get("content-type"), METRICS_TYPE);
  const announced = new Set<string>();
  for (const line of answer.text.trimEnd().split("\n")) {
    const type = /^# TYPE (\w+) (?:gauge|counter)$/.exec(line);
    if (type?.[1] !== undefined) {
      assert.equal(announced.has(type[1]), false, line);
      announced.add(type[1]);
    } else if (!/^# HELP \w+ \S/.test(line)) {
      const sample = /^(varve_\w+)(?:\{\w+="[^"]*"(?:,\w+="[^"]*")*\})? -?[0-9.e+]+$/.exec(line);
      assert.ok(announced.has(sample?.[1] ?? ""), line);
    }
  }
});

test("a volume's figures carry its name, and its state is one of three", () => {
  const text = renderMetrics(new FakeEngine().status(), true);
  assert.match(text, /^varve_volume_size_bytes\{volume="db"\} 1073741824$/m);
  assert.match(text, /^varve_volume_compressed_saved_bytes\{volume="db"\} 5000000$/m);
  assert.match(text, /^varve_volume_state\{volume="db",state="ready"\} 1$/m);
  assert.match(text, /^varve_volume_state\{volume="db",state="failed"\} 0$/m);
  assert.match(text, /^varve_volume_window_end_seconds\{volume="db"\} 1795342500$/m);
});

test("the last scrub's figures are there once a volume had one", () => {
  const engine = new FakeEngine();
  assert.doesNotMatch(renderMetrics(engine.status(), true), /^varve_volume_scrub/m);
  engine.finishScrub("db", fakeScrub());
  const text = renderMetrics(engine.status(), true);
  assert.match(text, /^varve_volume_scrub_damaged_places\{volume="db"\} 2$/m);
  assert.match(text, /^varve_volume_scrub_damaged_points\{volume="db"\} 1$/m);
  assert.match(text, /^varve_volume_scrub_finished_seconds\{volume="db"\} 1795342500$/m);
});

test("space, events and refused writes are figures", () => {
  const text = renderMetrics(new FakeEngine().status(), true);
  assert.match(text, /^varve_storage_reserve_bytes 1073741824$/m);
  assert.match(text, /^varve_storage_watermark_bytes 54975581388$/m);
  assert.match(text, /^varve_storage_state\{state="ok"\} 1$/m);
  assert.match(text, /^varve_storage_state\{state="full"\} 0$/m);
  assert.match(text, /^varve_events_total\{level="warning",kind="storage.low"\} 1$/m);
  assert.match(text, /^varve_volume_refused_writes_total\{volume="db"\} 3$/m);
});

test("readiness and a missing mount are figures too", () => {
  const { mountPath: _, ...status } = new FakeEngine().status();
  const text = renderMetrics(status, false);
  assert.match(text, /^varve_ready 0$/m);
  assert.match(text, /^varve_mounted 0$/m);
});

test("labels are escaped", () => {
  const status = { ...new FakeEngine().status(), version: 'a"b\\c\nd' };
  assert.match(renderMetrics(status, true), /^varve_info\{version="a\\"b\\\\c\\nd"\} 1$/m);
});

test("clones and what they have of their own are figures of their volume", async () => {
  const engine = new FakeEngine();
  assert.match(renderMetrics(engine.status(), true), /^varve_clones\{volume="db"\} 0$/m);
  for (const name of ["a", "b"]) {
    await engine.createClone({ volume: "db", at: "now", name }, { name: "unix" });
  }
  const text = renderMetrics(engine.status(), true);
  assert.match(text, /^varve_clones\{volume="db"\} 2$/m);
  assert.match(text, /^varve_clone_used_bytes\{volume="db"\} 16384$/m);
});

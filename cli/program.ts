/**
 * The command line as a whole: every command, exit codes, and how errors are told.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import manifest from "../deno.json" with { type: "json" };
import { VarveError } from "../src/base/errors.ts";
import { addCat } from "./cat.ts";
import { type Problem, ProblemError } from "./client.ts";
import { helpOrder } from "./command.ts";
import { addDiff } from "./diff.ts";
import { addInspect } from "./inspect.ts";
import { addLs } from "./ls.ts";
import { addMark } from "./mark.ts";
import { addClone, addClones } from "./clone.ts";
import { addEvents } from "./events.ts";
import { facts, printable } from "./output.ts";
import { addPoints } from "./points.ts";
import { addRebuild } from "./rebuild.ts";
import { addRecover } from "./recover.ts";
import { addRetention } from "./retention.ts";
import { addScrub } from "./scrub.ts";
import { addServe } from "./serve_command.ts";
import { addStatus } from "./status.ts";
import type { Terminal } from "./terminal.ts";
import { addToken } from "./token.ts";
import { addVersions } from "./versions.ts";
import { addVolume } from "./volume.ts";

/** Runs the command line; resolves to the exit code: 0, 1 for a failure, 2 for wrong usage. */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await buildProgram(terminal).parseAsync(args, { from: "user" });
    return 0;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2;
    if (thrown instanceof Deno.errors.BrokenPipe) return 0; // The reader has seen enough.
    const problem = problemOf(thrown);
    terminal.err(args.includes("--json") ? `${JSON.stringify(problem)}\n` : explain(problem));
    return 1;
  }
}

function buildProgram(terminal: Terminal): Command {
  const program = new Command("varve")
    .description("Block-level continuous data protection: every write is kept, every moment can be read.")
    .version(manifest.version, "--version", "print the version")
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.err(text) })
    .configureHelp(helpOrder)
    .showHelpAfterError("(--help tells more)")
    .addHelpText(
      "after",
      "\nA time is: now, RFC 3339, seq:N, mark:NAME, 10:13, `10m ago`, `yesterday 14:00`.\n",
    );
  addServe(program, terminal);
  addStatus(program, terminal);
  addVolume(program, terminal);
  addEvents(program, terminal);
  addMark(program, terminal);
  addPoints(program, terminal);
  addLs(program, terminal);
  addCat(program, terminal);
  addVersions(program, terminal);
  addDiff(program, terminal);
  addRecover(program, terminal);
  addClone(program, terminal);
  addClones(program, terminal);
  addRetention(program, terminal);
  addScrub(program, terminal);
  addRebuild(program, terminal);
  addInspect(program, terminal);
  addToken(program, terminal);
  return program;
}

function problemOf(thrown: unknown): Problem {
  if (thrown instanceof ProblemError) return thrown.problem;
  const { code, message, hint, details } = VarveError.from(thrown, "Running the command");
  return { ...details, code, detail: message, ...(hint === undefined ? {} : { hint }) };
}

/** The problem for people: what was tried and found, moments that could be meant, what to do. */
function explain(problem: Problem): string {
  const moments = Object.entries(problem).flatMap(([name, value]): [string, string][] =>
    isMoment(value) ? [[`  ${name}`, `${value.time} (seq:${value.seq})`]] : []
  );
  const hint = problem.hint === undefined ? "" : `${printable(problem.hint)}\n`;
  return `varve: ${printable(problem.detail)}\n${moments.length === 0 ? "" : facts(moments)}${hint}`;
}

function isMoment(value: unknown): value is { time: string; seq: number } {
  return typeof value === "object" && value !== null && "time" in value && typeof value.time === "string" &&
    "seq" in value && typeof value.seq === "number";
}

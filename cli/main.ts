/**
 * Entry of the command line.
 *
 * @module
 */
import { run } from "./program.ts";
import { systemTerminal } from "./terminal.ts";

if (import.meta.main) Deno.exit(await run(Deno.args, systemTerminal()));

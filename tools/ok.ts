// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * `deno task ok`: the developers' gate. Runs every check in turn and stops at the first that fails.
 *
 * @module
 */

/** What has to hold, cheapest first; each is one call of `deno`. */
const CHECKS: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["format", ["fmt", "--check"]],
  ["lint", ["lint"]],
  ["types", ["check", "."]],
  ["documentation", ["doc", "--lint", "mod.ts"]],
  ["tests", ["run", "--allow-all", "tools/test.ts"]],
];

if (import.meta.main) {
  Deno.chdir(new URL("..", import.meta.url));
  for (const [name, args] of CHECKS) {
    console.log(`── ${name}: deno ${args.join(" ")}`);
    const { code } = await new Deno.Command(Deno.execPath(), { args: [...args], stdin: "null" }).spawn()
      .status;
    if (code !== 0) {
      console.error(`── ${name}: failed with exit code ${code}`);
      Deno.exit(code);
    }
  }
}

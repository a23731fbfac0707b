// deno-lint-ignore-file no-console -- it speaks to people at a terminal
/**
 * Debian packages that a task needs.
 *
 * @module
 */

/** What a finished program left; `undefined` when there is no such program. */
async function output(command: string, args: string[]): Promise<Deno.CommandOutput | undefined> {
  try {
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    return await new Deno.Command(command, { args, env, stdin: "null" }).output();
  } catch (thrown) {
    if (thrown instanceof Deno.errors.NotFound) return undefined;
    throw thrown;
  }
}

/**
 * Installs those packages that are missing, when root runs it. On a system without dpkg the packages are taken to be
 * there, and a line says so.
 *
 * @returns Whether everything is there now; if not, the reason was told on standard error.
 */
export async function ensurePackages(packages: readonly string[]): Promise<boolean> {
  const query = await output("dpkg-query", ["-W", "-f", "${Package} ${db:Status-Status}\\n", ...packages]);
  if (query === undefined) {
    console.error(`This is not Debian; these packages' programs have to be there: ${packages.join(" ")}`);
    return true;
  }
  const installed = new TextDecoder().decode(query.stdout).split("\n");
  const missing = packages.filter((name) => !installed.includes(`${name} installed`));
  if (missing.length === 0) return true;

  const install = ["install", "-y", "-qq", "--no-install-recommends", ...missing];
  if (Deno.uid() !== 0) {
    console.error(`Programs are missing that only root can install: apt-get ${install.join(" ")}`);
    return false;
  }
  console.log(`Installing ${missing.join(" ")}`);
  for (const args of [["update", "-qq"], install]) {
    const result = await output("apt-get", args);
    if (result?.success) continue;
    console.error(`Running apt-get ${args.join(" ")}: ${result ? `exit code ${result.code}` : "not found"}`);
    console.error(new TextDecoder().decode(result?.stderr));
    return false;
  }
  return true;
}

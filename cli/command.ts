/**
 * What every command shares: its common options, the connection, the two forms of output.
 *
 * @module
 */
import { type Command, Help, type HelpConfiguration, InvalidArgumentError, type Option } from "commander";
import { VarveError } from "../src/base/errors.ts";
import { parseDuration, parseSize } from "../src/base/units.ts";
import { ApiClient, DEFAULT_API } from "./client.ts";
import type { Terminal } from "./terminal.ts";

/** Options that every command takes which talks to the appliance. */
export interface CommonOptions {
  /** Print the API's answer. */
  json?: true;
  /** Address of the API. */
  api?: string;
  /** Bearer token. */
  token?: string;
  /** File with the bearer token. */
  tokenFile?: string;
}

/** How a command is introduced to people. */
export interface CommandText {
  /** One line. */
  summary: string;
  /** One use of it, without `varve`. */
  example: string;
}

/**
 * Adds a command that talks to the appliance; `usage` is its name and arguments as commander reads them. The default
 * command of a group runs when none is named.
 */
export function clientCommand(
  parent: Command,
  usage: string,
  text: CommandText,
  options: { isDefault?: boolean } = {},
): Command {
  return parent.command(usage, options)
    .summary(text.summary)
    .description(`${text.summary}.`)
    .option("--json", "print the API's answer")
    .option(
      "--api <listen>",
      `address of the API: unix:/path, HOST:PORT or a URL (VARVE_API; ${DEFAULT_API})`,
    )
    .option("--token <token>", "token for TCP (VARVE_TOKEN)")
    .option("--token-file <file>", "file that holds the token")
    .addHelpText("after", `\nExample:\n  varve ${text.example}\n`);
}

/** Shows the options that every command has after those of its own. */
export const helpOrder: HelpConfiguration = {
  visibleOptions(command) {
    const isCommon = (option: Option) =>
      ["json", "api", "token", "tokenFile", "help"].includes(option.attributeName());
    const options = Help.prototype.visibleOptions.call(this, command);
    return options.toSorted((a, b) => Number(isCommon(a)) - Number(isCommon(b)));
  },
};

/** Adds a command that only holds others. */
export function group(parent: Command, name: string, summary: string): Command {
  return parent.command(name).summary(summary).description(`${summary}.`);
}

/** Runs the work of a command on a connection, which is closed afterwards. */
export async function withClient(
  terminal: Terminal,
  options: CommonOptions,
  work: (client: ApiClient) => Promise<void>,
): Promise<void> {
  const token = options.token ?? await readToken(options.tokenFile) ?? terminal.env("VARVE_TOKEN");
  using client = new ApiClient(options.api ?? terminal.env("VARVE_API") ?? DEFAULT_API, token);
  await work(client);
}

/** Prints an answer: as JSON when that was asked for, else as `text` puts it. */
export function print(terminal: Terminal, options: CommonOptions, answer: unknown, text: () => string): void {
  if (!options.json) terminal.out(text());
  else if (answer !== undefined) terminal.out(`${JSON.stringify(answer, null, 2)}\n`);
}

/** Address of a volume, or of something below it. */
export function volumePath(volume: string, ...rest: string[]): string {
  return ["/v1/volumes", volume, ...rest].map((part, index) => index === 0 ? part : encodeURIComponent(part))
    .join("/");
}

/** Reads a size for commander. */
export function sizeArgument(text: string): number {
  return argument(() => parseSize(text));
}

/** Reads a duration for commander; the text itself goes to the API. */
export function durationArgument(text: string): string {
  return argument(() => {
    parseDuration(text);
    return text;
  });
}

/** Reads a count from 1 on for commander. */
export function countArgument(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Write a whole number from 1 on.");
}

/** Reads one of a closed set for commander. */
export function choiceArgument<T extends string>(choices: readonly T[]): (text: string) => T {
  return (text) => {
    const choice = choices.find((each) => each === text);
    if (choice === undefined) throw new InvalidArgumentError(`Write one of: ${choices.join(", ")}.`);
    return choice;
  };
}

/** Gathers an option that may be given several times. */
export function collect<T>(read: (text: string) => T): (text: string, before: T[] | undefined) => T[] {
  return (text, before = []) => [...before, read(text)];
}

function argument<T>(read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    if (thrown instanceof VarveError) throw new InvalidArgumentError(thrown.hint ?? thrown.message);
    throw thrown;
  }
}

async function readToken(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return (await Deno.readTextFile(path)).trim();
  } catch (thrown) {
    throw VarveError.from(thrown, `Reading the token file ${path}`);
  }
}

/**
 * `varve token create|list|revoke`
 *
 * @module
 */
import type { Command } from "commander";
import type { TokenInfo, TokenScope } from "../src/engine.ts";
import {
  choiceArgument,
  clientCommand,
  collect,
  type CommonOptions,
  group,
  print,
  withClient,
} from "./command.ts";
import { facts, table } from "./output.ts";
import type { Terminal } from "./terminal.ts";

const SCOPES: readonly TokenScope[] = ["read", "operate", "admin"];

/** Adds the commands. */
export function addToken(program: Command, terminal: Terminal): void {
  const token = group(program, "token", "Create, list and revoke tokens for the API over TCP");

  clientCommand(token, "create <name>", {
    summary: "Make a token and show its secret, this once",
    example: "token create backup --scope operate",
  })
    .requiredOption(
      "--scope <scope>",
      `${SCOPES.join(", ")}; may be given again`,
      collect(choiceArgument(SCOPES)),
    )
    .action((name: string, options: CommonOptions & { scope: TokenScope[] }) =>
      withClient(terminal, options, async (client) => {
        const body = { name, scopes: options.scope };
        const made = await client.request<TokenInfo & { token: string }>("POST", "/v1/tokens", { body });
        print(
          terminal,
          options,
          made,
          () =>
            facts([["id", made.id], ["name", made.name], ["scopes", made.scopes.join(" ")], [
              "token",
              made.token,
            ]]),
        );
      })
    );

  clientCommand(token, "list", { summary: "List the tokens, without secrets", example: "token list" })
    .action((options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        const found = await client.request<{ tokens: TokenInfo[] }>("GET", "/v1/tokens");
        const rows = found.tokens.map((
          { id, name, scopes, createdAt },
        ) => [id, name, scopes.join(" "), createdAt]);
        print(terminal, options, found, () => table(["ID", "NAME", "SCOPES", "CREATED"], rows));
      })
    );

  clientCommand(token, "revoke <id>", { summary: "Take a token back", example: "token revoke 4f2a" })
    .action((id: string, options: CommonOptions) =>
      withClient(terminal, options, async (client) => {
        await client.request("DELETE", `/v1/tokens/${encodeURIComponent(id)}`);
        print(terminal, options, undefined, () => `Revoked token ${id}.\n`);
      })
    );
}

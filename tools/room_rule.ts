/**
 * A lint plugin that holds the rule of the rooms: imports point towards `src/base`.
 *
 * The table below is the rule. `src` never looks up at `fuse`, `api` or `cli`; `fuse` and `api` never look at each
 * other; only `cli/serve.ts`, the composition root, sees them all. `cli/rebuild.ts` and `cli/inspect.ts` work on files
 * without an appliance, so they see `src`. `tests`, `bench`, `tools` and test files beside
 * the code may import anything, and nothing but they may import `tests`, `bench` and `tools`.
 *
 * Besides import and export declarations it follows `import()`, `import("…").Type` and
 * `new URL("…", import.meta.url)`, by which workers are started.
 *
 * @module
 */
import { dirname, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const SRC_ROOMS = [
  "base",
  "disk",
  "journal",
  "catalog",
  "timeline",
  "browse",
  "volume",
  "clone",
  "nbd",
  "guestfs",
].map((name) => `src/${name}`);

/** What each room may import besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  "src/base": [],
  "src/disk": ["src/base"],
  "src/journal": ["src/base", "src/disk"],
  "src/catalog": ["src/base", "src/disk", "src/journal"],
  "src/timeline": ["src/base", "src/disk", "src/journal", "src/catalog", "src/guestfs"],
  "src/browse": ["src/base", "src/disk", "src/journal", "src/catalog", "src/timeline", "src/guestfs"],
  "src/volume": ["src/base", "src/disk", "src/journal", "src/catalog", "src/timeline"],
  "src/clone": ["src/base", "src/disk", "src/volume"],
  "src/nbd": ["src/base"],
  "src/guestfs": ["src/base"],
  "src": SRC_ROOMS,
  "fuse": SRC_ROOMS,
  "api": SRC_ROOMS,
  "cli": ["api", "src/base", "cli/serve.ts", "cli/rebuild.ts", "cli/inspect.ts"],
  "cli/rebuild.ts": ["cli", "src", "src/base"],
  "cli/inspect.ts": ["cli", "src", "src/base"],
  "cli/serve.ts": ["api", "cli", "fuse", "src", ...SRC_ROOMS],
  "mod.ts": ["api", "fuse", "src", ...SRC_ROOMS],
};

/** Who may import the types of `src/engine.ts`, the interface at which the rooms meet. */
const ENGINE_TYPES_FOR = ["src/timeline", "src/browse", "src/volume", "fuse", "api", "cli"];

const FREE = ["tests", "bench", "tools"];

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "..");

/** The room of a file, given its path from the root; `undefined` for one that lies in no known room. */
function roomOf(path: string): string | undefined {
  if (path in MAY_IMPORT) return path;
  const [top = "", second = "", ...rest] = path.split("/");
  const room = top === "src" && rest.length > 0 ? `src/${second}` : top;
  return room in MAY_IMPORT || FREE.includes(room) ? room : undefined;
}

/** Why `importer` may not import `imported` (both paths from the root), or `undefined` when it may. */
function objection(importer: string, imported: string, typeOnly: boolean): string | undefined {
  const from = roomOf(importer);
  const to = roomOf(imported);
  if (from === undefined) return `${importer} lies in no room that tools/room_rule.ts knows`;
  if (from === to || FREE.includes(from) || importer.endsWith("_test.ts")) return undefined;
  if (to === undefined) return `${imported} lies in no room that tools/room_rule.ts knows`;
  if (imported === "src/engine.ts" && ENGINE_TYPES_FOR.includes(from)) {
    return typeOnly ? undefined : `${from} may import only types from ${imported}`;
  }
  return MAY_IMPORT[from]?.includes(to) ? undefined : `${from} may not import ${to} (${imported})`;
}

/** The plugin, named in `lint.plugins` of `deno.json`. */
const plugin: Deno.lint.Plugin = {
  name: "varve",
  rules: {
    rooms: {
      create(context) {
        const importer = resolve(ROOT, context.filename);
        function check(node: Deno.lint.Node, specifier: string, typeOnly: boolean): void {
          if (!/^\.\.?\/.*\.tsx?$/.test(specifier)) return;
          const imported = resolve(dirname(importer), specifier);
          const message = objection(relative(ROOT, importer), relative(ROOT, imported), typeOnly);
          if (message !== undefined) {
            context.report({
              node,
              message,
              hint: "Imports point towards src/base; see docs/architecture.md.",
            });
          }
        }
        function checkLiteral(
          node: Deno.lint.Node,
          value: Deno.lint.Node | undefined,
          typeOnly: boolean,
        ): void {
          if (value?.type === "Literal" && typeof value.value === "string") {
            check(node, value.value, typeOnly);
          }
        }
        return {
          ImportDeclaration: (node) => check(node, node.source.value, node.importKind === "type"),
          ExportAllDeclaration: (node) => check(node, node.source.value, node.exportKind === "type"),
          ExportNamedDeclaration(node) {
            if (node.source !== null) check(node, node.source.value, node.exportKind === "type");
          },
          ImportExpression: (node) => checkLiteral(node, node.source, false),
          TSImportType(node) {
            if (node.argument.type === "TSLiteralType") checkLiteral(node, node.argument.literal, true);
          },
          NewExpression(node) {
            const [path, base] = node.arguments;
            const isFileBesides = node.callee.type === "Identifier" && node.callee.name === "URL" &&
              base !== undefined && context.sourceCode.getText(base) === "import.meta.url";
            if (isFileBesides) checkLiteral(node, path, false);
          },
        };
      },
    },
  },
};
export default plugin;

/**
 * What a directory tree holds, as `find`, `sha256sum` and `getfattr` tell it, so that two trees can be compared.
 *
 * @module
 */
import { run } from "./run.ts";

/** What is known of each path below a root; the root itself is `.`. */
export type Tree = ReadonlyMap<string, Readonly<Record<string, string>>>;

const FIELDS = ["type", "mode", "uid", "gid", "links", "size", "modified", "target"] as const;

/** Describes every file below `root`: type, mode, owners, links, size, mtime, symlink target, content, device, xattrs. */
export async function describeTree(root: string): Promise<Tree> {
  const tree = new Map<string, Record<string, string>>();
  const at = (path: string) => {
    const known = tree.get(path);
    if (known !== undefined) return known;
    const made: Record<string, string> = {};
    tree.set(path, made);
    return made;
  };
  const [found, hashes, devices, xattrs] = await Promise.all([
    run("find", root, "-printf", `%P\\0${["%y", "%m", "%U", "%G", "%n", "%s", "%T@", "%l"].join("\\0")}\\0`),
    within(root, "find . -type f -print0 | xargs -0 -r sha256sum --zero --"),
    within(root, "find . \\( -type b -o -type c \\) -print0 | xargs -0 -r stat --printf '%t:%T %n\\0'"),
    within(root, "getfattr --recursive --physical --no-dereference --dump --match=- --encoding=hex ."),
  ]);
  const values = found.split("\0");
  for (let index = 0; index + FIELDS.length < values.length; index += FIELDS.length + 1) {
    const file = at(values[index] || ".");
    for (const [offset, field] of FIELDS.entries()) file[field] = values[index + 1 + offset] ?? "";
  }
  for (const [value, path] of pairs(hashes, /^(\w{64}) [ *]\.\/(.*)$/s)) at(path)["sha256"] = value;
  for (const [value, path] of pairs(devices, /^(\w+:\w+) \.\/(.*)$/s)) at(path)["device"] = value;
  for (const block of xattrs.split("\n\n").filter((text) => text.startsWith("# file: "))) {
    const [heading = "", ...lines] = block.split("\n");
    at(heading.slice("# file: ".length).replace(/^\.\//, ""))["xattrs"] = lines.sort().join(" ");
  }
  return tree;
}

/** Everything in which two trees differ, one line each; nothing when they are the same. */
export function treeDifferences(actual: Tree, expected: Tree): string[] {
  const paths = [...new Set([...expected.keys(), ...actual.keys()])].sort();
  return paths.flatMap((path) => {
    const found = actual.get(path);
    const wanted = expected.get(path);
    if (found === undefined) return [`${path}: missing`];
    if (wanted === undefined) return [`${path}: should not be there`];
    return [...new Set([...Object.keys(wanted), ...Object.keys(found)])]
      .filter((field) => found[field] !== wanted[field])
      .map((field) => `${path}: ${field} is ${found[field]}, not ${wanted[field]}`);
  });
}

function within(root: string, script: string): Promise<string> {
  return run("bash", "-o", "pipefail", "-c", `cd "$0" && ${script}`, root);
}

function* pairs(listing: string, form: RegExp): Generator<[value: string, path: string]> {
  for (const entry of listing.split("\0")) {
    if (entry === "") continue;
    const [, value, path] = form.exec(entry) ?? [];
    if (value === undefined || path === undefined) {
      throw new Error(`Reading a listing: ${JSON.stringify(entry)} has another form`);
    }
    yield [value, path];
  }
}

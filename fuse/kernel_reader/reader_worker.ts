/**
 * Entry of the Worker that has the kernel read one disk. It waits where the kernel waits; so each disk has its own.
 *
 * @module
 */
import { VarveError } from "../../src/base/errors.ts";
import { KernelMount } from "./kernel_mount.ts";
import { MountedFiles } from "./mounted_files.ts";
import type { FromReader, ReaderCallName, ReaderCalls, ReaderQuestion, ToReader } from "./reader_calls.ts";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<ToReader>) => void) | null;
  postMessage(message: FromReader, transfer: Transferable[]): void;
  close(): void;
};

let mounted: { readonly mount: KernelMount; readonly files: MountedFiles } | undefined;

function mount({ disk, type }: ReaderQuestion & { call: "mount" }): ReaderCalls["mount"]["answer"] {
  using opening = new DisposableStack();
  const mount = opening.use(KernelMount.open(disk, type));
  const files = new MountedFiles(mount.root, type);
  const summary = files.describe();
  opening.move();
  mounted = { mount, files };
  return summary;
}

function unmount(): undefined {
  mounted?.files[Symbol.dispose]();
  mounted?.mount[Symbol.dispose]();
  mounted = undefined;
}

function answer(question: ReaderQuestion): ReaderCalls[ReaderCallName]["answer"] {
  if (question.call === "mount") return mount(question);
  if (question.call === "close") return unmount();
  if (mounted === undefined) {
    throw new VarveError("cancelled", "ask the kernel for a file: nothing is mounted");
  }
  const { files } = mounted;
  switch (question.call) {
    case "space":
      return files.space();
    case "find":
      return files.find(question.inode);
    case "stat":
      return files.stat(question.handle);
    case "lookup":
      return files.lookup(question.handle, question.name);
    case "list":
      return files.list(question.handle);
    case "readLink":
      return files.readLink(question.handle);
    case "xattrs":
      return files.xattrs(question.handle);
    case "read":
      return files.read(question.handle, question.offset, question.length);
    case "seek":
      return files.seek(question.handle, question.offset, question.kind);
  }
}

/** Whole buffers that nobody here uses any more. */
function transferable(answered: ReturnType<typeof answer>): Transferable[] {
  if (answered instanceof Uint8Array) return [answered.buffer as ArrayBuffer];
  if (typeof answered !== "object" || !("handles" in answered)) return [];
  return [answered.entries.records, answered.entries.names];
}

scope.onmessage = ({ data: { id, question } }) => {
  try {
    const answered = answer(question);
    scope.postMessage({ id, answer: answered }, transferable(answered));
  } catch (thrown) {
    const error = VarveError.from(thrown, "have the kernel read a disk");
    scope.postMessage({ id, error: error.toMessage() }, []);
  }
  if (question.call === "close") scope.close();
};

/**
 * Why the last call of the C library failed.
 *
 * @module
 */

const library = Deno.dlopen("libc.so.6", { __errno_location: { parameters: [], result: "pointer" } });

let view: Deno.UnsafePointerView | undefined;

/** `errno` of this thread, as the last synchronous call left it; right behind that call alone. */
export function lastErrno(): number {
  if (view === undefined) {
    const pointer = library.symbols.__errno_location();
    if (pointer === null) throw new Error("__errno_location: null");
    view = new Deno.UnsafePointerView(pointer);
  }
  return view.getInt32();
}

/** Bytes of a file in memory, in pages; a page that is not there is a hole and reads as zeroes. */

/** Size of a page in bytes. */
export const PAGE_BYTES = 4096;

/** A page is never changed in place, so copies of a file share those that are equal. */
export class SparseBytes {
  readonly pages: Map<number, Uint8Array>;
  sizeBytes: number;

  constructor(pages: Map<number, Uint8Array> = new Map(), sizeBytes = 0) {
    this.pages = pages;
    this.sizeBytes = sizeBytes;
  }

  /** A copy with a life of its own. */
  clone(): SparseBytes {
    return new SparseBytes(new Map(this.pages), this.sizeBytes);
  }

  /** Fills `target` from `offset`; beyond the size there is nothing. Returns how many bytes. */
  read(offset: number, target: Uint8Array): number {
    const length = Math.max(0, Math.min(target.length, this.sizeBytes - offset));
    for (let done = 0; done < length;) {
      const at = offset + done;
      const page = Math.floor(at / PAGE_BYTES);
      const from = at - page * PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - from, length - done);
      const bytes = this.pages.get(page);
      if (bytes === undefined) target.fill(0, done, done + count);
      else target.set(bytes.subarray(from, from + count), done);
      done += count;
    }
    return length;
  }

  /** Puts bytes in place, the size left alone. Keeps parts of `bytes`, which must never change afterwards. */
  put(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const at = offset + done;
      const page = Math.floor(at / PAGE_BYTES);
      const from = at - page * PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - from, bytes.length - done);
      const part = bytes.subarray(done, done + count);
      if (count === PAGE_BYTES) this.pages.set(page, part);
      else {
        const changed = this.pages.get(page)?.slice() ?? new Uint8Array(PAGE_BYTES);
        changed.set(part, from);
        this.pages.set(page, changed);
      }
      done += count;
    }
  }

  /** Makes a range a hole, the size left alone. */
  clear(offset: number, length: number): void {
    const end = offset + length;
    const firstWhole = Math.ceil(offset / PAGE_BYTES);
    const endWhole = Math.floor(end / PAGE_BYTES);
    if (firstWhole > endWhole) {
      this.#zero(offset, length);
      return;
    }
    this.#zero(offset, firstWhole * PAGE_BYTES - offset);
    this.#zero(endWhole * PAGE_BYTES, end - endWhole * PAGE_BYTES);
    if (endWhole - firstWhole < this.pages.size) {
      for (let page = firstWhole; page < endWhole; page++) this.pages.delete(page);
    } else {
      for (const page of [...this.pages.keys()]) {
        if (page >= firstWhole && page < endWhole) this.pages.delete(page);
      }
    }
  }

  #zero(offset: number, length: number): void {
    const page = Math.floor(offset / PAGE_BYTES);
    const bytes = this.pages.get(page);
    if (bytes === undefined || length === 0) return;
    const changed = bytes.slice();
    changed.fill(0, offset - page * PAGE_BYTES, offset - page * PAGE_BYTES + length);
    this.pages.set(page, changed);
  }

  /** Sets the size; what lay beyond it is gone for good. */
  resize(sizeBytes: number): void {
    if (sizeBytes < this.sizeBytes) this.clear(sizeBytes, this.#endOfPages() - sizeBytes);
    this.sizeBytes = sizeBytes;
  }

  #endOfPages(): number {
    return Math.ceil(this.sizeBytes / PAGE_BYTES) * PAGE_BYTES;
  }

  /** The first byte at or after `offset` that is of that kind, or `undefined`. */
  seek(offset: number, kind: "data" | "hole"): number | undefined {
    for (let at = offset; at < this.sizeBytes;) {
      const page = Math.floor(at / PAGE_BYTES);
      if (this.pages.has(page) === (kind === "data")) return at;
      at = (page + 1) * PAGE_BYTES;
    }
    return undefined;
  }
}

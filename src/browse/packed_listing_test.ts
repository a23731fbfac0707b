import assert from "node:assert/strict";
import fc from "fast-check";
import type { GuestEntry, GuestStat } from "../guestfs/guest.ts";
import { PackedListing, packEntries } from "./packed_listing.ts";

const TYPES = ["file", "directory", "symlink", "fifo", "socket", "block", "character"] as const;
const word = fc.nat(0xffff_ffff);
const long = fc.maxSafeNat();
/** Far beyond 2262, where nanoseconds in 64 bits end. */
const time = fc.bigInt(-(2n ** 66n), 2n ** 66n);

const statOf = (inode: number): fc.Arbitrary<GuestStat> =>
  fc.record({
    inode: fc.constant(inode),
    type: fc.constantFrom(...TYPES),
    mode: fc.nat(0o7777),
    uid: word,
    gid: word,
    links: word,
    sizeBytes: long,
    blocks512: long,
    rdev: long,
    accessedNs: time,
    modifiedNs: time,
    changedNs: time,
    bornNs: time,
  }, {
    requiredKeys: [
      "inode",
      "type",
      "mode",
      "uid",
      "gid",
      "links",
      "sizeBytes",
      "blocks512",
      "rdev",
      "accessedNs",
      "modifiedNs",
      "changedNs",
    ],
  }).map((stat) => ({ ...stat }));

const known: fc.Arbitrary<{ entry: GuestEntry; stat: GuestStat | undefined }> = fc.maxSafeNat().chain((
  inode,
) =>
  fc.record({
    entry: fc.record({
      name: fc.uint8Array({ minLength: 1, maxLength: 20 }),
      inode: fc.constant(inode),
      type: fc.option(fc.constantFrom(...TYPES), { nil: undefined }),
    }),
    stat: fc.option(statOf(inode), { nil: undefined }),
  })
);

Deno.test("a packed listing tells every name with all that is known of it", () => {
  fc.assert(
    fc.property(fc.uniqueArray(known, { selector: ({ entry }) => entry.inode, maxLength: 30 }), (list) => {
      const stats = new Map(list.map(({ entry, stat }) => [entry.inode, stat]));
      const packed = packEntries(list.map(({ entry }) => entry), (inode) => stats.get(inode));
      const listing = new PackedListing(
        structuredClone(packed, { transfer: [packed.records, packed.names] }),
      );
      assert.equal(listing.length, list.length);
      for (const [index, { entry, stat }] of list.entries()) {
        const { name, inode, type, stat: found } = listing.at(index);
        assert.deepEqual([...name], [...entry.name]);
        assert.deepEqual({ inode, type }, { inode: entry.inode, type: stat?.type ?? entry.type });
        assert.deepEqual(found, stat);
      }
    }),
  );
});

Deno.test("a packed listing refuses an index outside of it", () => {
  const listing = new PackedListing(packEntries([], () => undefined));
  assert.equal(listing.length, 0);
  assert.throws(() => listing.at(0), RangeError);
});

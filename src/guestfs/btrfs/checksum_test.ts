import { equal } from "node:assert/strict";
import { noise } from "../_busy_tree.ts";
import { hex } from "../_test_support.ts";
import { blake2b256 } from "./blake2b.ts";
import { xxhash64 } from "./xxhash64.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

// Made by `b2sum -l 256`.
const BLAKE2B: readonly [Uint8Array, string][] = [
  [noise(0, 0), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"],
  [noise(3, 3), "dbae6b89799f825f4c4f12821d1e0669f90f582241c1da0672a8fcbdad48ef5f"],
  [noise(127, 127), "d77c0d8faaa2b27b182428a555e91cb944daf6a339c214c5e697f1aa50bc4dc4"],
  [noise(128, 128), "e73a6bb18b23d12c6643d40ef85864bb805531d995c32902eeccc0f0357f35db"],
  [noise(129, 129), "0304280f8630b9c998abb90de5966008c3a2d45c5a71185b097e562cb217482e"],
  [noise(255, 255), "0a64be38f2594813b9104ee69eb3a12a5074726e512d19ff4fbc3f4a3065cfee"],
  [noise(256, 256), "d4eaa4c23fb4fea8203d0dec2646a8d1eecd45085ec1495a194d595b33396b78"],
  [noise(1000, 1000), "2354dfe2591576cb197ec0b5ca4dd8c67170009d31c049cfda0f8d0d1881ba4c"],
  [noise(4096, 4096), "1faaee5443af9b890244ca410fb70ad64aad6bae4c78a9592609062ea5fe42bc"],
];

for (const [data, digest] of BLAKE2B) {
  Deno.test(`btrfs: BLAKE2b-256 of ${data.length} bytes`, () => equal(hex(blake2b256(data)), digest));
}

// Of longer input, metadata that the kernel wrote are the test (`kernel_test.ts`).
Deno.test("btrfs: XXH64", () => {
  equal(hex(xxhash64(bytes("")).reverse()), "ef46db3751d8e999");
  equal(hex(xxhash64(bytes("a")).reverse()), "d24ec4f1a98c6e5b");
  equal(hex(xxhash64(bytes("abc")).reverse()), "44bc2cf5ad770999");
});

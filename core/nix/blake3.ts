import { createBLAKE3 } from 'hash-wasm';

import type { Digester } from './digest.ts';

/** Creates a digester for BLAKE3 with 32 bytes, which node:crypto does not provide. */
export async function createBlake3(): Promise<Digester> {
  const hasher = await createBLAKE3();
  return {
    update(chunk) {
      hasher.update(chunk);
    },
    digest: () => hasher.digest('binary'),
  };
}

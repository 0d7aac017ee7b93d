import { createHash } from 'node:crypto';

import type { HashAlgorithm } from './hash.ts';

/** Hashes bytes that arrive in chunks. */
export interface Digester {
  update(chunk: Uint8Array): void;
  /** Returns the digest. Call it once. */
  digest(): Uint8Array;
}

/** Creates a digester for any of Nix's algorithms. `node:crypto` has no BLAKE3: its code is loaded on use. */
export async function createDigester(algorithm: HashAlgorithm): Promise<Digester> {
  if (algorithm !== 'blake3') return createHash(algorithm);
  const { createBLAKE3 } = await import('./blake3.ts');
  const hasher = await createBLAKE3();
  return {
    update(chunk) {
      hasher.update(chunk);
    },
    digest: () => hasher.digest('binary'),
  };
}

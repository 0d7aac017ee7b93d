import { createHash } from 'node:crypto';

import type { HashAlgorithm } from './hash.ts';

/** Hashes bytes that arrive in chunks. */
export interface Digester {
  update(chunk: Uint8Array): void;
  /** Returns the digest. Call it once. */
  digest(): Uint8Array;
}

/** Creates a digester for any of Nix's algorithms. The code of blake3 is loaded on first use. */
export async function createDigester(algorithm: HashAlgorithm): Promise<Digester> {
  if (algorithm !== 'blake3') return createHash(algorithm);
  const { createBlake3 } = await import('./blake3.ts');
  return createBlake3();
}

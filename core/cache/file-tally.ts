import { createHash } from 'node:crypto';

import { formatHash } from '../nix/hash.ts';
import type { HashAlgorithm } from '../nix/hash.ts';

/** Counts and hashes the bytes of a stored file while they go by. */
export interface FileTally {
  through(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array>;
  /** Of what went by, once: the hash as `<algorithm>:<base32>`, the size in bytes. */
  facts(): { readonly fileHash: string; readonly fileSize: number };
}

export function createFileTally(algorithm: HashAlgorithm = 'sha256'): FileTally {
  const hash = createHash(algorithm);
  let fileSize = 0;
  return {
    async *through(source) {
      for await (const chunk of source) {
        hash.update(chunk);
        fileSize += chunk.length;
        yield chunk;
      }
    },
    facts: () => ({
      fileHash: formatHash({ algorithm, digest: hash.digest() }, 'base32'),
      fileSize,
    }),
  };
}

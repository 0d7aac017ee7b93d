import { hash } from 'node:crypto';

import { createDigester } from '../../nix/digest.ts';
import { formatHash, formatSha256 } from '../../nix/hash.ts';
import type { HashAlgorithm } from '../../nix/hash.ts';

/** The hash and size of a stored file, as in its narinfo. */
export interface FileFacts {
  /** `<algorithm>:<base32>`. */
  readonly fileHash: string;
  /** In bytes. */
  readonly fileSize: number;
}

/** Hashes and counts the bytes of a stored file while they pass through. */
interface FileHasher {
  hashStream(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array>;
  /** Returns the result for the bytes so far. Call it once. */
  facts(): FileFacts;
}

/** Hashes a whole file with SHA-256. */
export function hashFile(file: Uint8Array): FileFacts {
  return { fileHash: formatSha256(hash('sha256', file, 'buffer')), fileSize: file.length };
}

export async function createFileHasher(algorithm: HashAlgorithm = 'sha256'): Promise<FileHasher> {
  const hasher = await createDigester(algorithm);
  let fileSize = 0;
  return {
    async *hashStream(source) {
      for await (const chunk of source) {
        hasher.update(chunk);
        fileSize += chunk.length;
        yield chunk;
      }
    },
    facts: () => ({
      fileHash: formatHash({ algorithm, digest: hasher.digest() }, 'base32'),
      fileSize,
    }),
  };
}

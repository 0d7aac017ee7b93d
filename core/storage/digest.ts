import { hash } from 'node:crypto';
import { NicheError } from '../errors.ts';

/**
 * Refuses a body whose SHA-256 differs from the declared one.
 *
 * @param action for errors: `writing "nar/…" in file:///…`
 * @throws NicheError `storage-integrity`
 */
export function assertDigest(body: Uint8Array, expected: Uint8Array, action: string): void {
  const got = hash('sha256', body, 'hex');
  const wanted = Buffer.from(expected).toString('hex');
  if (got !== wanted) {
    throw new NicheError(
      'storage-integrity',
      `${action} failed: expected bytes whose SHA-256 is ${wanted}, got ${got}`,
    );
  }
}

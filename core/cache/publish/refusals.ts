import { NicheError } from '../../errors.ts';
import type { PathInfo } from '../../nix/path-info.ts';

/**
 * @param maxInTime the largest NAR that the publisher's time limit allows, in bytes
 * @param maxNarBytes the largest that the cache takes
 * @throws NicheError `too-large`: known before a byte is read
 */
export function assertSize(claim: PathInfo, maxInTime: number, maxNarBytes: number): void {
  if (claim.narSize > maxInTime) {
    throw new NicheError(
      'too-large',
      `the NAR of ${claim.path} is too large for the time that this publisher has: expected at most ${maxInTime} bytes, got ${claim.narSize}`,
    );
  }
  if (claim.narSize > maxNarBytes) {
    throw new NicheError(
      'too-large',
      `the NAR of ${claim.path} is too large for this cache: expected at most ${maxNarBytes} bytes, got ${claim.narSize}`,
    );
  }
}

/** The refusal of a path that is withdrawn. */
export function blocked(claim: PathInfo): NicheError {
  return new NicheError('blocked', `an administrator has withdrawn ${claim.path} from this cache`);
}

/** The refusal of a path whose narinfo is there, and damaged: who published what is not for us to say. */
export function unreadable({ path }: PathInfo, cause: NicheError): NicheError {
  return new NicheError(
    'conflict',
    `this cache has a narinfo of ${path} that cannot be read: ${cause.message}`,
    { cause },
  );
}

/** The refusal of a path that `where` has with something else. */
export function conflict(
  code: 'conflict' | 'upstream-conflict',
  claim: PathInfo,
  found: PathInfo,
  where: string,
): NicheError {
  const [what, expected, got] =
    found.path !== claim.path
      ? ['another name', found.path, claim.path]
      : found.narHash !== claim.narHash || found.narSize !== claim.narSize
        ? [
            'other contents',
            `${found.narHash} (${found.narSize} bytes)`,
            `${claim.narHash} (${claim.narSize} bytes)`,
          ]
        : ['other references', `${found.references.length}`, `${claim.references.length}`];
  return new NicheError(
    code,
    `${where} has ${claim.path} with ${what}: expected ${expected}, got ${got}`,
  );
}

import { NicheError } from '../../errors.ts';
import { parsePublicKey } from '../../nix/keys.ts';
import type { PathInfo } from '../../nix/path-info.ts';
import { storeHash } from '../../nix/store-path.ts';
import type { ObjectReader } from '../../storage/bucket.ts';
import type { CacheConfig } from '../config.ts';
import { isSamePath } from '../read-narinfo.ts';
import { readSignedNarInfo } from '../signed-narinfo.ts';
import type { Blocked } from '../blocklist.ts';
import type { Upstreams } from '../upstreams.ts';
import type { PublishContext } from './context.ts';

/** What the upstreams have in the place of a claimed path. */
export type UpstreamCheck =
  /** Nothing, or the same path. */
  | { readonly kind: 'none' }
  /** Something that niche cannot read or verify, so nobody knows whether it is the same path. */
  | { readonly kind: 'undecided'; readonly why: string };

/** What the cache and its upstreams have in the place of a claimed path. */
export type ConflictCheck =
  UpstreamCheck /** The cache has the same path. */ | { readonly kind: 'exists' };

/** Compares a claimed path with the narinfos that the cache and its upstreams have. */
export interface ConflictChecker {
  /**
   * Looks the path up in the cache.
   *
   * @returns `exists` when the same path is published, null when the cache has no narinfo of its hash
   * @throws NicheError `blocked`, `conflict`, `unverified-narinfo`
   */
  checkCache(context: PublishContext, claim: PathInfo): Promise<'exists' | null>;
  /**
   * Looks the path up in the upstreams: no cache replaces an upstream's path.
   *
   * @throws NicheError `upstream-conflict`, `upstream-unavailable`
   */
  checkUpstreams(claim: PathInfo): Promise<UpstreamCheck>;
  /**
   * Looks the path up in the cache and, if it is not there, in the upstreams.
   *
   * @throws NicheError `blocked`, `conflict`, `unverified-narinfo`, `upstream-conflict`,
   *   `upstream-unavailable`
   */
  checkConflicts(context: PublishContext, claim: PathInfo): Promise<ConflictCheck>;
}

export function createConflictChecker(options: {
  readonly public: ObjectReader;
  readonly upstreams: Upstreams;
  readonly config: Pick<CacheConfig, 'storeDir' | 'publicKeys'>;
}): ConflictChecker {
  const { public: cache, upstreams, config } = options;
  const publicKeys = config.publicKeys.map(parsePublicKey);

  async function checkCache(context: PublishContext, claim: PathInfo): Promise<'exists' | null> {
    const hash = storeHash(claim.path);
    if (context.blocked.refuses(claim)) throw blockedError(claim, context.blocked);
    const found = await readSignedNarInfo(cache, hash, config.storeDir, publicKeys);
    if (found.kind === 'missing') return null;
    if (found.kind !== 'signed') throw unverifiedError(claim, found.problem);
    if (!isSamePath(found.info, claim)) {
      throw conflictError('conflict', claim, found.info, 'this cache');
    }
    context.presence.markPresent(claim.path);
    return 'exists';
  }

  async function checkUpstreams(claim: PathInfo): Promise<UpstreamCheck> {
    const lookup = await upstreams.findNarInfo(storeHash(claim.path));
    if (lookup.kind === 'unusable') {
      return { kind: 'undecided', why: `comparing ${claim.path} with its upstream: ${lookup.why}` };
    }
    if (lookup.kind === 'found' && !isSamePath(lookup.info, claim)) {
      throw conflictError('upstream-conflict', claim, lookup.info, 'an upstream');
    }
    return { kind: 'none' };
  }

  return {
    checkCache,
    checkUpstreams,
    async checkConflicts(context, claim) {
      const kind = await checkCache(context, claim);
      return kind ? { kind } : checkUpstreams(claim);
    },
  };
}

/** Creates the rejection of a blocked path, or of one with blocked contents. */
export function blockedError(
  { path, narHash }: PathInfo,
  blocked: Pick<Blocked, 'has' | 'hasNar'>,
): NicheError & { code: 'blocked' } {
  const isForContents = blocked.hasNar(narHash) && !blocked.has(storeHash(path));
  const why = isForContents
    ? `an administrator refused its contents, ${narHash}`
    : 'an administrator withdrew it';
  const error = new NicheError('blocked', `${path} is blocked: ${why}`);
  return error as NicheError & { code: 'blocked' };
}

/**
 * Creates the rejection of a path in whose place the cache has a narinfo that no reader accepts. Only an
 * administrator replaces one: a manifest could ask for any replacement.
 */
function unverifiedError({ path }: PathInfo, problem: string): NicheError {
  return new NicheError('unverified-narinfo', `cannot publish ${path}: ${problem}`);
}

function conflictError(
  code: 'conflict' | 'upstream-conflict',
  claim: PathInfo,
  found: PathInfo,
  where: string,
): NicheError {
  const [difference, expected, got] = describeDifference(claim, found);
  return new NicheError(
    code,
    `${where} has ${claim.path} with ${difference}: expected ${expected}, got ${got}`,
  );
}

function describeDifference(
  claim: PathInfo,
  found: PathInfo,
): [difference: string, expected: string, got: string] {
  if (found.path !== claim.path) return ['another name', found.path, claim.path];
  if (found.narHash !== claim.narHash || found.narSize !== claim.narSize) {
    const describeNar = ({ narHash, narSize }: PathInfo): string => `${narHash} (${narSize} bytes)`;
    return ['other contents', describeNar(found), describeNar(claim)];
  }
  return ['other references', `${found.references.length}`, `${claim.references.length}`];
}

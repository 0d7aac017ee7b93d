import type { OpenCache } from '../../core/cache/open.ts';
import { isSamePath } from '../../core/cache/read-narinfo.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import { readSignedNarInfo } from '../../core/cache/signed-narinfo.ts';
import type { PublicKey } from '../../core/nix/keys.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { storeHash } from '../../core/nix/store-path.ts';

/** What the cache shows about a path whose receipt reports it as published. */
export type Confirmation =
  | { readonly kind: 'confirmed' }
  /** The cache has the path with other contents or references. */
  | { readonly kind: 'conflict'; readonly outcome: Outcome }
  | { readonly kind: 'unconfirmed'; readonly why: string };

/** Checks receipts against the signed narinfos. Anyone who can write to staging can forge receipts. */
export interface Confirmer {
  /** Returns false while the narinfo of a path was read too recently to read it again. */
  isDue(path: string): boolean;
  /** @throws NicheError `storage-…` when the narinfo cannot be read */
  confirm(info: PathInfo): Promise<Confirmation>;
  /** The number of narinfos read. */
  requests(): number;
}

/** Doubles after each narinfo that confirms nothing, so that forged receipts cause few requests. */
const firstDelayMs = 250;
const maxDelayMs = 30_000;

export function createConfirmer(
  { public: cache, config }: Pick<OpenCache, 'public' | 'config'>,
  publicKeys: readonly PublicKey[],
  now: () => number = Date.now,
): Confirmer {
  const retries = new Map<string, { readonly atMs: number; readonly delayMs: number }>();
  let requests = 0;

  function unconfirmed(path: string, problem: string): Confirmation {
    const delayMs = Math.min((retries.get(path)?.delayMs ?? firstDelayMs / 2) * 2, maxDelayMs);
    retries.set(path, { atMs: now() + delayMs, delayMs });
    return {
      kind: 'unconfirmed',
      why: `a receipt reports ${path} as published, but ${problem}`,
    };
  }

  return {
    isDue: (path) => (retries.get(path)?.atMs ?? 0) <= now(),
    async confirm(info) {
      requests += 1;
      const hash = storeHash(info.path);
      const found = await readSignedNarInfo(cache, hash, config.storeDir, publicKeys);
      if (found.kind !== 'signed') return unconfirmed(info.path, found.problem);
      if (isSamePath(found.info, info)) return { kind: 'confirmed' };
      return { kind: 'conflict', outcome: conflictWith(info.path) };
    },
    requests: () => requests,
  };
}

/** Returns the result of a path that the cache has with other contents or references. */
export function conflictWith(path: string): Outcome & { readonly message: string } {
  const message = `the cache already has ${path} with other contents or references`;
  return { status: 'rejected', code: 'conflict', message };
}

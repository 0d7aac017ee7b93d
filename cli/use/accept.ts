import type { CacheConfig } from '../../core/cache/config.ts';
import { cacheInfoKey, narInfoKey, parseNarInfoKey } from '../../core/cache/layout.ts';
import { readText } from '../../core/cache/objects.ts';
import { isNicheError, messageOf, quote } from '../../core/errors.ts';
import { maxNarInfoBytes } from '../../core/limits.ts';
import { parseCacheInfo } from '../../core/nix/cache-info.ts';
import { fingerprint } from '../../core/nix/fingerprint.ts';
import { parsePublicKey, verifyFingerprint } from '../../core/nix/keys.ts';
import { parseNarInfo } from '../../core/nix/narinfo.ts';
import { parseStorePath, storeHash } from '../../core/nix/store-path.ts';
import { hasStore } from '../../core/nix/store-url.ts';
import type { Bucket } from '../../core/storage/bucket.ts';
import type { ObjectReader } from '../../core/storage/bucket.ts';
import { isKey } from '../../core/storage/keys.ts';
import type { CacheEntry } from './nix-conf.ts';
import type { ReaderNix } from './reader-nix.ts';

/** A reason why Nix would not substitute from the cache. */
export interface Obstacle {
  readonly code:
    | 'substituter-missing'
    | 'key-missing'
    | 'store-dir'
    | 'cache-info'
    | 'path-missing'
    | 'narinfo'
    | 'unsigned'
    | 'wrong-signature'
    | 'nar-missing';
  readonly message: string;
}

export interface Verdict {
  /** Null when no path was checked, or this machine has no Nix. */
  readonly accepted: boolean | null;
  /** The store path that was checked. */
  readonly path: string | null;
  readonly obstacles: readonly Obstacle[];
}

export interface AcceptInput {
  /** The cache's public root. */
  readonly reader: ObjectReader | Bucket;
  readonly config: CacheConfig;
  readonly entry: CacheEntry;
  readonly nix: ReaderNix | null;
  /** The store path to check; by default the first one, if the cache can be listed. */
  readonly storePath: string | undefined;
}

/** Returns whether the only obstacle is that nix.conf lacks the cache. */
export function isMissingConfiguration({ code }: Obstacle): boolean {
  return code === 'substituter-missing' || code === 'key-missing';
}

/**
 * Checks one path of the cache as Nix would, and returns whether Nix will accept it.
 *
 * @throws NicheError `malformed-store-path` for an invalid `storePath`; the codes of storage
 */
export async function checkAcceptance(input: AcceptInput): Promise<Verdict> {
  const { reader, config, nix, storePath } = input;
  const hash =
    storePath === undefined
      ? await firstStoreHash(reader)
      : storeHash(parseStorePath(storePath, config.storeDir).path);
  const [ofCache, checked] = await Promise.all([
    cacheObstacles(input),
    hash === null ? null : checkPath(input, hash),
  ]);
  const obstacles = [...configurationObstacles(input), ...ofCache, ...(checked?.obstacles ?? [])];
  const isCertain = nix !== null && checked !== null;
  return {
    accepted: obstacles.length > 0 ? (nix ? false : null) : isCertain ? true : null,
    path: checked?.path ?? storePath ?? null,
    obstacles,
  };
}

function configurationObstacles({ nix, entry }: AcceptInput): Obstacle[] {
  if (!nix) return [];
  const obstacles: Obstacle[] = [];
  if (!hasStore(nix.substituters, entry.substituter)) {
    obstacles.push({
      code: 'substituter-missing',
      message: `Nix does not use the substituter ${quote(entry.substituter)}`,
    });
  }
  const missing = entry.publicKeys.filter((key) => !nix.publicKeys.includes(key));
  if (missing.length > 0) {
    obstacles.push({
      code: 'key-missing',
      message: `Nix does not trust the key ${missing.map(quote).join(' and ')}`,
    });
  }
  return obstacles;
}

async function cacheObstacles({ reader, config, nix }: AcceptInput): Promise<Obstacle[]> {
  const text = await readText(reader, cacheInfoKey);
  if (text === null) return [{ code: 'cache-info', message: `the cache has no ${cacheInfoKey}` }];
  try {
    const { storeDir } = parseCacheInfo(text);
    const expected = nix?.storeDir ?? config.storeDir;
    return storeDir === expected
      ? []
      : [
          {
            code: 'store-dir',
            message: `wrong store directory of the cache: expected ${quote(expected)}, got ${quote(storeDir)}`,
          },
        ];
  } catch (error) {
    if (isNicheError(error)) return [{ code: 'cache-info', message: messageOf(error) }];
    throw error;
  }
}

async function checkPath(
  { reader, config, entry, nix, storePath }: AcceptInput,
  hash: string,
): Promise<Omit<Verdict, 'accepted'>> {
  const path = storePath ?? null;
  const key = narInfoKey(hash);
  const refuse = (code: Obstacle['code'], message: string) => ({
    path,
    obstacles: [{ code, message }],
  });
  const text = await readText(reader, key, maxNarInfoBytes);
  if (text === null) return refuse('path-missing', `the cache does not have ${path ?? key}`);
  let info;
  try {
    info = parseNarInfo(text, config.storeDir);
  } catch (error) {
    if (isNicheError(error)) return refuse('narinfo', `invalid ${key}: ${messageOf(error)}`);
    throw error;
  }
  if (storeHash(info.path) !== hash || (path !== null && info.path !== path)) {
    return refuse(
      'narinfo',
      `invalid ${key}: expected ${quote(path ?? hash)}, got ${quote(info.path)}`,
    );
  }
  const obstacles: Obstacle[] = [];
  const keys = [...entry.publicKeys, ...(nix?.publicKeys ?? [])].flatMap(readKey);
  const signed = fingerprint(info, config.storeDir);
  // Nix needs no signature on a content-addressed path.
  if (
    info.ca === null &&
    !info.signatures.some((signature) => verifyFingerprint(signed, signature, keys))
  ) {
    const names = info.signatures.map((signature) => signature.split(':')[0]).join(', ');
    obstacles.push(
      info.signatures.length === 0
        ? { code: 'unsigned', message: `${info.path} has no signature` }
        : {
            code: 'wrong-signature',
            message: `${info.path} has no valid signature by ${entry.publicKeys.map(quote).join(' or ')}, only signatures by: ${names}`,
          },
    );
  }
  if (isKey(info.url) && (await reader.head(info.url)) === null) {
    obstacles.push({ code: 'nar-missing', message: `${info.path}: ${info.url} is missing` });
  }
  return { path: info.path, obstacles };
}

/** Returns the first path of a listing; null for an empty cache, and over HTTP, which has no listing. */
async function firstStoreHash(reader: ObjectReader | Bucket): Promise<string | null> {
  if (!('list' in reader)) return null;
  for await (const { key } of reader.list('')) {
    const hash = parseNarInfoKey(key);
    if (hash !== null) return hash;
  }
  return null;
}

/** Skips invalid keys in Nix's settings: Nix itself reports them. */
function readKey(text: string): ReturnType<typeof parsePublicKey>[] {
  try {
    return [parsePublicKey(text)];
  } catch {
    return [];
  }
}

import { NicheError, quote } from '../errors.ts';
import { canonicalNarHash } from './hash.ts';
import type { PathInfo } from './path-info.ts';
import { defaultStoreDir, parseStorePath } from './store-path.ts';

/**
 * Returns the text that a narinfo's signatures sign (ValidPathInfo::fingerprint in Nix):
 * `1;<store path>;<NAR hash>;<NAR size>;<references>`, with the hash as `sha256:<base32>` and the
 * references as full paths, sorted by bytes and separated by commas. Validates every part, because
 * readers trust whatever is signed.
 *
 * @throws NicheError `malformed-store-path`, `malformed-hash`, `malformed-path-info` for an impossible
 *   NAR size
 */
export function fingerprint(
  info: Pick<PathInfo, 'path' | 'narHash' | 'narSize' | 'references'>,
  storeDir: string = defaultStoreDir,
): string {
  const { path } = parseStorePath(info.path, storeDir);
  if (!Number.isSafeInteger(info.narSize) || info.narSize <= 0) {
    throw new NicheError(
      'malformed-path-info',
      `malformed path info of ${quote(path)}: expected a NAR size in bytes, got ${info.narSize}`,
    );
  }
  const references = new Set(
    info.references.map((reference) => parseStorePath(reference, storeDir).path),
  );
  return [
    '1',
    path,
    canonicalNarHash(info.narHash),
    String(info.narSize),
    [...references].sort().join(','),
  ].join(';');
}

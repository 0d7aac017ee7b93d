import { NicheError, quote } from '../errors.ts';
import { canonicalNarHash } from './hash.ts';
import type { PathInfo } from './path-info.ts';
import { defaultStoreDir, parseStorePath } from './store-path.ts';

/**
 * What a signature of a narinfo is over: `1;<store path>;<NAR hash>;<NAR size>;<references>`, the
 * hash as `sha256:<base32>`, the references as full paths sorted by bytes and parted by commas.
 * Every part is checked, since what is signed here is believed by every reader.
 *
 * @throws NicheError `malformed-store-path`, `malformed-hash`, `malformed-path-info` for a size that
 *   no NAR has
 */
export function fingerprint(
  info: Pick<PathInfo, 'path' | 'narHash' | 'narSize' | 'references'>,
  storeDir: string = defaultStoreDir,
): string {
  const { path } = parseStorePath(info.path, storeDir);
  if (!Number.isSafeInteger(info.narSize) || info.narSize <= 0) {
    throw new NicheError(
      'malformed-path-info',
      `making the fingerprint of ${quote(path)}: expected a NAR's size in bytes, got ${info.narSize}`,
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

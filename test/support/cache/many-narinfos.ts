import { narInfoKey } from '../../../core/cache/layout.ts';
import { readObject, writeObject } from '../../../core/cache/objects.ts';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { signFingerprint } from '../../../core/nix/keys.ts';
import type { SecretKey } from '../../../core/nix/keys.ts';
import { formatNarInfo } from '../../../core/nix/narinfo.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';

const storeDir = '/nix/store';
const narHash = `sha256:${'0'.repeat(52)}`;

/**
 * Writes signed narinfos without NARs, for code that reads only narinfos.
 *
 * @returns their texts by their keys
 */
export async function writeNarInfos(
  bucket: Bucket,
  secretKey: SecretKey,
  count: number,
): Promise<ReadonlyMap<string, string>> {
  const written = new Map<string, string>();
  for (let index = 0; index < count; index += 1) {
    const unsigned = {
      path: `${storeDir}/${String(index).padStart(32, '0')}-path-${index}`,
      url: `nar/${'0'.repeat(52)}.nar`,
      compression: 'none' as const,
      fileHash: narHash,
      fileSize: 1,
      narHash,
      narSize: 120,
      references: [],
      deriver: null,
      signatures: [],
      ca: null,
      extra: [],
    };
    // niche must keep unknown lines in their place.
    const signature = signFingerprint(fingerprint(unsigned, storeDir), secretKey);
    const text = `${formatNarInfo({ ...unsigned, signatures: [signature] }, storeDir)}X-Other: kept\n`;
    const key = narInfoKey(storeHash(unsigned.path));
    await writeObject(bucket, key, text);
    written.set(key, text);
  }
  return written;
}

/** Counts the objects with just one more signature, by `keyName`, and the unchanged ones. */
export async function countResigned(
  bucket: Bucket,
  before: ReadonlyMap<string, string>,
  keyName: string,
): Promise<{ resigned: number; untouched: number; spoilt: string[] }> {
  const tally = { resigned: 0, untouched: 0, spoilt: [] as string[] };
  const added = new RegExp(`^Sig: ${keyName}:[A-Za-z0-9+/]{86}==\\n`, 'gm');
  for (const [key, text] of before) {
    const now = String(await readObject(bucket, key, 65_536));
    const lines = now.match(added) ?? [];
    if (now === text) tally.untouched += 1;
    else if (lines.length === 1 && now.replace(added, '') === text) tally.resigned += 1;
    else tally.spoilt.push(key);
  }
  return tally;
}

import { NicheError, isNicheError } from '../../errors.ts';
import { formatNarInfo } from '../../nix/narinfo.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { narInfoKey } from '../layout.ts';
import { isNarKeyOf } from '../nar/store.ts';
import { replaceObject } from '../objects.ts';
import { blockedError } from '../publish/conflicts.ts';
import { isSignedBy } from '../signed-narinfo.ts';
import { readStoredNarInfo } from './check-path.ts';
import type { AdoptContext, AdoptResult } from './context.ts';
import { storeNarOfOther } from './nar-sources.ts';
import { catchRefusal } from './refusal.ts';

/**
 * Checks the NAR of a signed narinfo. If it is missing or damaged, stores that of the cache `from`, and
 * lets the narinfo refer to it. Nothing that is signed changes.
 *
 * @returns null when the NAR is intact
 * @throws NicheError `storage-…`
 */
export async function repairNar(context: AdoptContext, hash: string): Promise<AdoptResult | null> {
  const result = await catchRefusal(() => repair(context, hash));
  if (!(result instanceof NicheError)) return result;
  const { code, message } = result;
  return { path: narInfoKey(hash), status: 'refused', code, message };
}

async function repair(context: AdoptContext, hash: string): Promise<AdoptResult | null> {
  const { options, publicKeys, blocklist } = context;
  const { storeDir } = options.config;
  const found = await readStoredNarInfo(context, hash);
  if (!found || !(await isSignedBy(found.info, storeDir, publicKeys))) {
    return { path: narInfoKey(hash), status: 'changed' };
  }
  const { info, etag } = found;
  if (blocklist.refuses(info)) throw blockedError(info, blocklist);
  const damage = await findDamage(context, info);
  if (damage === null) return null;
  const { url, compression, fileHash, fileSize } = await storeNarOfOther(context, info, damage);
  if (!options.isDryRun) {
    const repaired = { ...info, url, compression, fileHash, fileSize };
    const text = formatNarInfo(repaired, storeDir);
    const outcome = await replaceObject(options.public, narInfoKey(hash), text, etag);
    if (outcome === 'changed') return { path: info.path, status: 'changed' };
  }
  return { path: info.path, status: 'repaired' };
}

/** Returns how the NAR differs from what the narinfo says of it; null when it is intact. */
async function findDamage({ nars }: AdoptContext, info: NarInfo): Promise<NicheError | null> {
  const { path, url } = info;
  if (!isNarKeyOf(url, info.narHash)) {
    return new NicheError('unreadable-nar', `the URL of ${path} is not that of its NAR`);
  }
  try {
    const { compression, fileHash, fileSize } = await nars.checkNar(info, url);
    const isSame =
      compression === info.compression &&
      (info.fileHash === null || fileHash === info.fileHash) &&
      (info.fileSize === null || fileSize === info.fileSize);
    return isSame ? null : new NicheError('unreadable-nar', `${url} of ${path} is another file`);
  } catch (error) {
    if (!isNicheError(error, 'storage-integrity')) throw error;
    return new NicheError('unreadable-nar', error.message, { cause: error });
  }
}

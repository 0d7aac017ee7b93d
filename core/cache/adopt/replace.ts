import { formatNarInfo } from '../../nix/narinfo.ts';
import { storeHash } from '../../nix/store-path.ts';
import { mapConcurrent } from '../../util/concurrency.ts';
import { narInfoKey } from '../layout.ts';
import { replaceObject } from '../objects.ts';
import type { Candidate } from '../publish/paths.ts';
import { withdrawRefused } from '../withdraw/withdraw.ts';
import type { UnsignedNarInfo } from './check-path.ts';
import type { AdoptContext } from './context.ts';

/** Narinfos replaced at once. */
const replacesAtOnce = 16;

/** A narinfo that passed every check. */
export interface ReadyNarInfo extends UnsignedNarInfo {
  readonly candidate: Candidate;
}

/**
 * Signs the paths, writes the audit log, and replaces each narinfo that is still the one that was
 * checked. A path whose reference was changed meanwhile keeps its narinfo.
 *
 * @param ready each after its references among them
 * @returns the replaced ones
 * @throws NicheError `wrong-key`, `signer-…`, `storage-…`
 */
export async function signAndReplace(
  context: AdoptContext,
  ready: readonly ReadyNarInfo[],
): Promise<ReadonlySet<ReadyNarInfo>> {
  const { options, blocklist, narInfoSigner, now } = context;
  if (ready.length === 0) return new Set();
  const narInfos = await narInfoSigner.signNarInfos(ready.map(({ candidate }) => candidate));
  const started = new Map<string, Promise<boolean>>();
  const replaced = await mapConcurrent(
    ready,
    replacesAtOnce,
    async ({ hash, etag, info }, index) => {
      const narInfo = narInfos[index];
      const references = info.references.flatMap((reference) => started.get(reference) ?? []);
      const replacing = Promise.all(references).then(async (areReplaced) => {
        if (!narInfo || areReplaced.includes(false)) return false;
        const text = formatNarInfo(narInfo, options.config.storeDir);
        const outcome = await replaceObject(options.public, narInfoKey(hash), text, etag);
        return outcome === 'replaced';
      });
      started.set(info.path, replacing);
      return replacing;
    },
  );
  // Some may have been blocked since: a storage may replace a narinfo that was just deleted.
  await blocklist.refresh();
  const refused = ready.filter(({ info }) => blocklist.refuses(info));
  await mapConcurrent(refused, replacesAtOnce, ({ info }) =>
    withdrawRefused({ ...options, now }, storeHash(info.path)),
  );
  return new Set(ready.filter((each, index) => replaced[index] && !refused.includes(each)));
}

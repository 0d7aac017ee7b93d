import type { OpenCache } from '../../core/cache/open.ts';
import { forEachRoot, guardRoots } from '../../core/cache/roots.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { describeRights, tryCredentials } from '../init/try-credentials.ts';
import type { Context } from '../process/context.ts';
import { environmentCredentials } from '../secrets/credentials.ts';
import type { Value } from './document.ts';

/**
 * Tries the credentials of a client document on the storage, as `niche init` does. Does nothing for
 * documents without any, and for those that let clients publish.
 *
 * @throws NicheError `unsafe-credentials` when they write to the public or the private root;
 *   `storage-…`
 */
export async function tryDocument(
  value: Value,
  { config }: Pick<OpenCache, 'config'>,
  context: Context,
): Promise<void> {
  if (!('storage' in value) || value.credentials === undefined || value.private !== undefined) {
    return;
  }
  const { storage, staging, credentials } = value;
  const roots = { public: storage, staging, private: config.private };
  const administrator = forEachRoot((root) => {
    const url = roots[root];
    return openBucket(url, { credentials: environmentCredentials(url, context.env) });
  });
  const rights = await tryCredentials(
    { storage, staging, private: config.private },
    credentials,
    guardRoots(administrator),
    false,
  );
  if (rights) context.stderr.write(`niche: ${describeRights(rights)}\n`);
}

import { tryUploaderRights } from '../../core/cache/uploader-rights.ts';
import type { UploaderRights } from '../../core/cache/uploader-rights.ts';
import type { CacheBuckets } from '../../core/cache/layout.ts';
import { forEachRoot, guardRoots } from '../../core/cache/roots.ts';
import { NicheError } from '../../core/errors.ts';
import type { StoredCredentials } from '../../core/storage/credentials.ts';
import { openBucket } from '../../core/storage/open/open-bucket.ts';
import { openProvisioner } from '../../core/storage/open/open-provision.ts';
import type { RootUrls } from './roots.ts';

/**
 * Tries the credentials for clients on a cache's storage.
 *
 * @param credentials absent when clients bring their own
 * @param administrator the roots, opened with this machine's credentials
 * @param isNew whether niche has just created the credentials
 * @returns null when there is nothing to try
 * @throws NicheError `usage` when roots share a bucket and there are no credentials to try; the codes
 *   of {@link tryUploaderRights}
 */
export async function tryCredentials(
  roots: Pick<RootUrls, 'storage' | 'staging' | 'private'>,
  credentials: StoredCredentials | undefined,
  administrator: CacheBuckets,
  isNew: boolean,
): Promise<UploaderRights | null> {
  const urls = { public: roots.storage, staging: roots.staging, private: roots.private };
  if (urls.staging.startsWith('file:')) return null;
  if (credentials === undefined) {
    await assertOwnBucket(urls);
    return null;
  }
  const client = forEachRoot((root) => openBucket(urls[root], { credentials }));
  const { uploadCredentialsDelayMs = 0 } = await openProvisioner(urls.staging);
  const delayMs = isNew ? uploadCredentialsDelayMs : 0;
  return tryUploaderRights(guardRoots(client), administrator, { delayMs });
}

/**
 * Checks that the staging root has a bucket of its own.
 *
 * @throws NicheError `usage`
 */
async function assertOwnBucket(urls: Readonly<Record<keyof CacheBuckets, string>>): Promise<void> {
  const bucketOf = async (url: string): Promise<string | null> =>
    url.startsWith('file:') ? null : (await openProvisioner(url)).bucketUrl;
  const staging = await bucketOf(urls.staging);
  for (const root of ['public', 'private'] as const) {
    if ((await bucketOf(urls[root])) !== staging) continue;
    throw new NicheError(
      'usage',
      `the staging root must not share a bucket with the ${root} root: niche has no credentials for clients to try whether they can write there`,
      { hint: 'give staging a bucket of its own, or pass --upload-credentials' },
    );
  }
}

/** Describes in a line what clients may do. */
export function describeRights(rights: UploaderRights): string {
  const more = (['overwrite', 'read', 'list', 'delete'] as const).filter((right) => rights[right]);
  const allowed = new Intl.ListFormat('en').format(['create', ...more]);
  return `tried the credentials for clients: they can ${allowed} objects in the staging root, and do nothing elsewhere that was tried`;
}

import { NicheError, quote } from '../../errors.ts';
import type { OpenOptions } from '../credentials.ts';
import { drivers } from './drivers.ts';
import { findDriver } from './open-bucket.ts';
import type { StorageProvisioner } from '../provision.ts';

/**
 * Opens what provisions the storage at `url`, such as `s3://acme`. Sends no request.
 *
 * @throws NicheError `invalid-url`, also for storage that needs no provisioning; `usage` for
 *   credentials of another storage
 */
export async function openProvisioner(
  url: string,
  options: OpenOptions = {},
): Promise<StorageProvisioner> {
  const provisioner = await findDriver(url)?.openProvisioner?.(url, options);
  if (provisioner !== undefined) return provisioner;
  const examples = drivers.map(({ example }) => example).join(', ');
  throw new NicheError(
    'invalid-url',
    `creating a cache: expected a storage URL, got ${quote(url)}`,
    {
      hint: `use one of ${examples}`,
    },
  );
}

import type { StorageCredentials } from '../../core/storage/credentials.ts';
import { findDriver } from '../../core/storage/open/open-bucket.ts';
import type { Environment } from '../process/environment.ts';

/**
 * Returns the credentials in the environment that the SDK of a storage would not find.
 *
 * @returns undefined if the SDK finds credentials itself, as for S3 and Google
 * @throws NicheError `invalid-url`; `usage` for a malformed variable
 */
export function environmentCredentials(
  storageUrl: string,
  env: Environment,
): StorageCredentials | undefined {
  return findDriver(storageUrl)?.environmentCredentials?.(storageUrl, env);
}

import type { StorageCredentials } from '../../core/storage/credentials.ts';
import { findDriver } from '../../core/storage/open/open-bucket.ts';
import type { Environment } from '../process/environment.ts';

/**
 * Returns the credentials that the environment has for a storage and its SDK would not find.
 *
 * @returns undefined where the SDK's own chain has to find some, as for S3 and Google
 * @throws NicheError `invalid-url`; `usage` for a malformed variable
 */
export function environmentCredentials(
  storageUrl: string,
  env: Environment,
): StorageCredentials | undefined {
  return findDriver(storageUrl)?.environmentCredentials?.(storageUrl, env);
}

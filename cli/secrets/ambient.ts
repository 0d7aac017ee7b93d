import { existsSync } from 'node:fs';
import path from 'node:path';

import { findDriver } from '../../core/storage/open/open-bucket.ts';
import { homeOf, nonEmpty } from '../process/environment.ts';
import type { Environment } from '../process/environment.ts';

/**
 * Returns whether this machine seems to have its own credentials for a storage. It does not look for
 * those that take a network request, such as a virtual machine's role: that takes seconds.
 */
export function hasAmbientCredentials(storageUrl: string, env: Environment): boolean {
  const driver = findDriver(storageUrl);
  if (driver === undefined) return false;
  if (driver.ambient === undefined) return true;
  if (driver.environmentCredentials?.(storageUrl, env) !== undefined) return true;
  const { variables, files, parameter } = driver.ambient;
  return (
    (parameter !== undefined && new URL(storageUrl).searchParams.has(parameter)) ||
    variables.some((name) => nonEmpty(env[name]) !== undefined) ||
    files.some((file) => existsSync(path.join(homeOf(env), file)))
  );
}

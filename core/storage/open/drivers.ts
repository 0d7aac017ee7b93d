import { azureDriver } from '../azure/definition.ts';
import type { StorageDriver } from '../driver.ts';
import { fileDriver } from '../file/definition.ts';
import { googleDriver } from '../google/definition.ts';
import { s3Driver } from '../s3/definition.ts';

/**
 * Every kind of storage: the one place where a driver is registered. In the bundle of a function,
 * `functions/<cloud>/drivers.ts` replaces this module.
 */
export const drivers: readonly StorageDriver[] = [fileDriver, s3Driver, azureDriver, googleDriver];

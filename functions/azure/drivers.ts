import type { StorageDriver } from '../../core/storage/driver.ts';
import { openAzureBucket } from '../../core/storage/azure/driver.ts';

/**
 * Replaces `core/storage/open/drivers.ts` in the bundle. A function uses only the storage of its own
 * cloud, and each driver would be loaded at every cold start.
 */
export const drivers: readonly StorageDriver[] = [
  { protocol: 'azure:', example: 'azure://account/container', open: openAzureBucket },
];

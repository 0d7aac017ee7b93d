import type { StorageDriver } from '../../core/storage/driver.ts';
import { openS3Bucket } from '../../core/storage/s3/driver.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';

/**
 * Replaces `core/storage/open/drivers.ts` in the bundle. A function uses only the storage of its own
 * cloud, and each driver would be loaded at every cold start.
 */
export const drivers: readonly StorageDriver[] = [
  {
    protocol: 's3:',
    example: 's3://bucket',
    open: (url, options) => openS3Bucket(parseS3Url(url), options),
  },
];

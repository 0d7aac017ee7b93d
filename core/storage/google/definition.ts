import type { StorageDriver } from '../driver.ts';
import type { PublicHost } from '../public-host.ts';
import { openGoogleBucket } from './driver.ts';
import { parseGoogleUrl } from './url.ts';

const storageUrl: PublicHost['storageUrl'] = ({ bucket, prefix }) => `gs://${bucket}${prefix}`;

/** Google Cloud Storage. */
export const googleDriver: StorageDriver = {
  protocol: 'gs:',
  example: 'gs://bucket',
  open: openGoogleBucket,
  async openProvisioner(url, options) {
    const { googleProvisioner } = await import('./provision.ts');
    return googleProvisioner(parseGoogleUrl(url), options);
  },
  publicHosts: [
    { host: /^(?:(?<bucket>.+)\.)?storage\.googleapis\.com$/, storageUrl },
    // For people who are signed in: no reader of a cache, but it identifies the bucket.
    { host: /^storage\.cloud\.google\.com$/, storageUrl },
  ],
  consoleHosts: [/^console\.cloud\.google\.com$/],
  ambient: {
    variables: ['GOOGLE_APPLICATION_CREDENTIALS'],
    files: ['.config/gcloud/application_default_credentials.json'],
  },
};

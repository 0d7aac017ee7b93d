import type { StorageDriver } from '../driver.ts';
import { openS3Bucket } from './driver.ts';
import { s3Hosts } from './hosts.ts';
import { parseS3Url, adaptS3Roots } from './url.ts';

/** Amazon S3, and everything that speaks its protocol. */
export const s3Driver: StorageDriver = {
  protocol: 's3:',
  example: 's3://bucket',
  open: (url, options) => openS3Bucket(parseS3Url(url), options),
  async openProvisioner(url, options) {
    const { s3Provisioner } = await import('./provision.ts');
    return s3Provisioner(parseS3Url(url), options);
  },
  publicHosts: s3Hosts,
  consoleHosts: [
    /(?:^|\.)console\.aws\.amazon\.com$/,
    /^(?:secure|www)\.backblaze\.com$/,
    /^(?:dash|www)\.cloudflare\.com$/,
    /^console\.wasabisys\.com$/,
  ],
  ambient: {
    variables: [
      'AWS_ACCESS_KEY_ID',
      'AWS_PROFILE',
      'AWS_WEB_IDENTITY_TOKEN_FILE',
      'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
      'AWS_CONTAINER_CREDENTIALS_FULL_URI',
      'AWS_SHARED_CREDENTIALS_FILE',
      'AWS_CONFIG_FILE',
    ],
    files: ['.aws/credentials', '.aws/config'],
    parameter: 'profile',
  },
  adaptRoots: adaptS3Roots,
};

/**
 * Replaces the storage drivers of other clouds in a deployed bundle. A function uses only the
 * storage of its own cloud, and each driver would be loaded at every cold start.
 */
import { NicheError } from '../../core/errors.ts';
import type { Bucket } from '../../core/storage/bucket.ts';

/** @throws NicheError `invalid-url` always */
export function openS3Bucket({ bucket }: { readonly bucket: string }): Bucket {
  throw refusal(`s3://${bucket}`);
}

/** @throws NicheError `invalid-url` always */
export function openAzureBucket(url: string): Bucket {
  throw refusal(url);
}

/** @throws NicheError `invalid-url` always */
export function openGoogleBucket(url: string): Bucket {
  throw refusal(url);
}

function refusal(url: string): NicheError {
  // The query or the fragment may hold a token.
  const [location = ''] = url.split(/[?#]/);
  return new NicheError(
    'invalid-url',
    `opening a bucket: expected storage of this function's own cloud, got ${location}`,
    { hint: 'deploy the function to the cloud of its cache: niche infra' },
  );
}

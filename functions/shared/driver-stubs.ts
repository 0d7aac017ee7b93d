/**
 * In a deployed bundle, what stands in for the storage drivers of other clouds: a function reads and
 * writes its own cloud's storage alone, and each driver would be read at every cold start.
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
  // What follows the place may hold a token.
  const [place = ''] = url.split(/[?#]/);
  return new NicheError(
    'invalid-url',
    `opening a bucket: expected storage of the cloud that this function runs on; got ${place}`,
    { hint: 'deploy the function beside its cache, as `niche infra` lays it out' },
  );
}

import { fileURLToPath } from 'node:url';
import { NicheError, quote } from '../../errors.ts';
import type { Bucket } from '../bucket.ts';
import type { StorageDriver } from '../driver.ts';
import { openFileBucket } from './driver.ts';

/** A directory, which `niche init` creates. It needs no credentials. */
export const fileDriver: StorageDriver = {
  protocol: 'file:',
  example: 'file:///some/dir',
  open: openFileUrl,
};

function openFileUrl(text: string): Bucket {
  const url = new URL(text);
  const isBare = url.search === '' && url.hash === '';
  try {
    const path = fileURLToPath(url);
    if (isBare && !path.includes('\0')) return openFileBucket(path);
  } catch (cause) {
    throw refusal(url, { cause });
  }
  throw refusal(url);
}

function refusal(url: URL, options?: ErrorOptions): NicheError {
  return new NicheError(
    'invalid-url',
    `opening a bucket: expected file:///absolute/path and nothing more; got ${quote(url.href)}`,
    options,
  );
}

import { createHash, createHmac } from 'node:crypto';
import type { S3Credentials } from '../../../core/storage/credentials.ts';

/** The signed parts of a request to S3, except the body, whose hash is a header. */
export interface SignedRequest {
  readonly method: string;
  /** Path and query, as sent. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
}

/**
 * Returns the `Authorization` of a request without the headers `dropped`. Signatures cover conditional
 * headers, so that a proxy cannot just remove them.
 *
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */
export function signedWithout(
  dropped: readonly string[],
  { method, path, headers }: SignedRequest,
  { secretAccessKey }: S3Credentials,
): string {
  const { authorization = '' } = headers;
  const [, credential = ''] = /Credential=([^,]+)/.exec(authorization) ?? [];
  const [, names = ''] = /SignedHeaders=([^,]+)/.exec(authorization) ?? [];
  const signed = names.split(';').filter((name) => !dropped.includes(name));
  const [, ...scope] = credential.split('/');
  const [pathname = '', query = ''] = path.split('?');
  const request = [
    method,
    pathname,
    query
      .split('&')
      .filter((pair) => pair !== '')
      .map((pair) => (pair.includes('=') ? pair : `${pair}=`))
      .sort()
      .join('&'),
    ...signed.map((name) => `${name}:${(headers[name] ?? '').trim()}`),
    '',
    signed.join(';'),
    headers['x-amz-content-sha256'] ?? '',
  ].join('\n');
  const text = [
    'AWS4-HMAC-SHA256',
    headers['x-amz-date'] ?? '',
    scope.join('/'),
    createHash('sha256').update(request).digest('hex'),
  ].join('\n');
  const key = scope.reduce<string | Buffer>(hmac, `AWS4${secretAccessKey}`);
  const signature = hmac(key, text).toString('hex');
  return `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${signed.join(';')}, Signature=${signature}`;
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

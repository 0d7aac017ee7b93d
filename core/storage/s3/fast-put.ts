import { finished } from 'node:stream/promises';
import type { Readable } from 'node:stream';

import type { PutObjectCommandInput, S3Client } from '@aws-sdk/client-s3';
import type { HttpHandler } from '@smithy/core/protocols';

import type * as Sdk from './sdk.ts';

/** What of a PUT's input is known here. */
export type SmallPut = Pick<
  PutObjectCommandInput,
  'CacheControl' | 'ChecksumSHA256' | 'ContentType' | 'IfMatch' | 'IfNoneMatch' | 'Metadata'
> & { readonly Bucket: string; readonly Key: string; readonly Body: Uint8Array };

/**
 * Sends small objects with what the SDK sends with, but not through its commands: around the signer and the HTTP
 * handler these build, spread and take apart so much that a small PUT takes five times the CPU.
 *
 * @returns whether it is stored or its condition did not hold; `refused` for any other answer that repeating
 *   will not change, of which the SDK's own command tells more
 * @throws S3ServiceException when the server is overloaded or down or gave up, and what the signer and the handler throw
 */
export type PutDirectly = (
  put: SmallPut,
  /** Of the body: the server checks it. */
  sha256: Uint8Array,
  signal?: AbortSignal,
) => Promise<'stored' | 'unmet' | 'refused'>;

/** @returns null for a bucket whose requests are signed in a way of their own */
export async function openDirect(
  sdk: typeof Sdk,
  client: S3Client,
  bucket: string,
): Promise<PutDirectly | null> {
  const { config } = client;
  const requestHandler = config.requestHandler as HttpHandler;
  const instructions = { Bucket: bucket, Key: 'key' };
  const endpoint = await sdk.getEndpointFromInstructions(
    instructions,
    sdk.PutObjectCommand,
    config,
  );
  const [scheme] = endpoint.properties?.authSchemes ?? [];
  if (scheme?.name !== 'sigv4' || endpoint.properties?.['backend'] !== undefined) return null;
  const signer = await config.signer(scheme);
  const { protocol, hostname, host, port, pathname } = endpoint.url;
  const root = pathname.replace(/\/$/, '');

  return async (put, sha256, signal) => {
    const { Key, Body } = put;
    const request = new sdk.HttpRequest({
      method: 'PUT',
      protocol,
      hostname,
      ...(port === '' ? {} : { port: Number(port) }),
      path: `${root}/${Key.split('/').map(escapeSegment).join('/')}`,
      headers: {
        host,
        'user-agent': 'niche',
        'content-length': String(Body.length),
        'x-amz-content-sha256': Buffer.from(sha256).toString('hex'),
        ...headersOf(put),
      },
      body: Body,
    });
    const signingDate = new Date(Date.now() + config.systemClockOffset);
    const signed = await signer.sign(request, { signingDate });
    const { response } = await requestHandler.handle(
      new sdk.HttpRequest(signed),
      signal ? { abortSignal: signal } : {},
    );
    const { statusCode } = response;
    // Read to its end, else the connection could not be used again.
    await finished((response.body as Readable).resume());
    if (statusCode >= 200 && statusCode < 300) return 'stored';
    if (statusCode === 412) return 'unmet';
    if (!mayYetBeStored(statusCode)) return 'refused';
    throw new sdk.S3ServiceException({
      name: 'Unknown',
      message: '',
      $fault: 'server',
      $metadata: { httpStatusCode: statusCode },
      $response: response,
    });
  };
}

/**
 * Whether it may be stored in spite of this answer, or once it is sent later. A server that lacks what is
 * asked, or space, is neither, and says so in words.
 */
function mayYetBeStored(status: number): boolean {
  if (status === 501 || status === 507) return false;
  return status >= 500 || status === 408 || status === 429;
}

function headersOf(put: SmallPut): Record<string, string> {
  const headers: Record<string, string | undefined> = {
    'cache-control': put.CacheControl,
    'content-type': put.ContentType ?? 'application/octet-stream',
    'if-match': put.IfMatch,
    'if-none-match': put.IfNoneMatch,
    'x-amz-checksum-sha256': put.ChecksumSHA256,
  };
  for (const [name, value] of Object.entries(put.Metadata ?? {})) {
    headers[`x-amz-meta-${name}`] = value;
  }
  const given = Object.entries(headers).filter((header) => header[1] !== undefined);
  return Object.fromEntries(given) as Record<string, string>;
}

/** As the SDK writes a key into a path, which is what is signed. */
function escapeSegment(segment: string): string {
  return encodeURIComponent(segment).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

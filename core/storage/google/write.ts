import { hash, randomBytes } from 'node:crypto';
import { quote } from '../../errors.ts';
import type { ObjectOptions, PutOptions, PutOutcome, ReplaceOutcome } from '../bucket.ts';
import { assertDigest } from '../digest.ts';
import { existsAlready, isGoogleError, mayHaveReachedGoogle } from './errors.ts';
import { headObject } from './read.ts';
import { discardBody } from '../../util/transport.ts';
import type { GoogleBucketClient } from './client.ts';
import { createWriterId, writeOnce } from '../http/conditional-write.ts';

/** The metadata field of an object's writer. */
export const writerField = 'niche_writer';

/** {@link Bucket.put}. */
export async function putObject(
  client: GoogleBucketClient,
  key: string,
  body: Uint8Array,
  options: PutOptions = {},
): Promise<PutOutcome> {
  client.objectName(key);
  const action = `writing ${quote(key)} in ${client.url}`;
  if (options.sha256 !== undefined) assertDigest(body, options.sha256, action);
  const generation = options.ifAbsent === true ? '0' : undefined;
  return (await write(client, key, body, options, generation)) ? 'created' : 'exists';
}

/** {@link Bucket.replace}. */
export async function replaceObject(
  client: GoogleBucketClient,
  key: string,
  body: Uint8Array,
  etag: string,
  options: ObjectOptions = {},
): Promise<ReplaceOutcome> {
  if (!/^[1-9]\d*$/.test(etag)) {
    // No object has such an etag. The request still reports missing rights.
    await headObject(client, key, options);
    return 'changed';
  }
  return (await write(client, key, body, options, etag)) ? 'replaced' : 'changed';
}

/**
 * @param generation of the object to replace, 0 for none; undefined for an unconditional write
 * @returns false when the condition did not hold
 */
async function write(
  client: GoogleBucketClient,
  key: string,
  body: Uint8Array,
  options: ObjectOptions,
  generation: string | undefined,
): Promise<boolean> {
  const { signal } = options;
  const name = client.objectName(key);
  const writer = createWriterId();
  const { contentType, content } = multipart(
    { ...resourceOf(options, writer), name, md5Hash: hash('md5', body, 'base64') },
    body,
  );
  const refusal = await writeOnce(client, {
    action: `writing ${quote(key)} in ${client.url}`,
    signal,
    writer,
    attempt: async (send) => {
      const response = await send({
        method: 'POST',
        path: uploadPath(client),
        query: {
          uploadType: 'multipart',
          name,
          ifGenerationMatch: generation,
          fields: 'generation',
        },
        headers: { 'content-type': contentType, 'content-length': String(content.length) },
        body: content,
      });
      await discardBody(response);
    },
    isRefused: (error) =>
      generation === '0'
        ? existsAlready(error)
        : generation !== undefined && isGoogleError(error, 412),
    mayHaveHappened: mayHaveReachedGoogle,
    readWriter: async () => (await headObject(client, key))?.metadata[writerField],
  });
  return refusal === null;
}

export function uploadPath({ location }: GoogleBucketClient): string {
  return `/upload/storage/v1/b/${encodeURIComponent(location.bucket)}/o`;
}

/** Returns the metadata of an object. */
export function resourceOf(options: ObjectOptions, writer: string): Record<string, unknown> {
  return {
    contentType: options.contentType ?? 'application/octet-stream',
    ...(options.cacheControl === undefined ? {} : { cacheControl: options.cacheControl }),
    metadata: { [writerField]: writer },
  };
}

/** Combines an object's metadata and bytes in one body (RFC 2387). */
function multipart(
  resource: Record<string, unknown>,
  body: Uint8Array,
): { contentType: string; content: Uint8Array } {
  const boundary = `niche-${randomBytes(16).toString('hex')}`;
  const head = [
    `--${boundary}`,
    'content-type: application/json; charset=UTF-8',
    '',
    JSON.stringify(resource),
    `--${boundary}`,
    `content-type: ${String(resource['contentType'])}`,
    '',
    '',
  ].join('\r\n');
  return {
    contentType: `multipart/related; boundary=${boundary}`,
    content: Buffer.concat([Buffer.from(head), body, Buffer.from(`\r\n--${boundary}--\r\n`)]),
  };
}

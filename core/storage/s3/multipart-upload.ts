import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { NicheError, quote } from '../../errors.ts';
import type { ObjectOptions, PutOutcome, ResumedUpload, Upload } from '../bucket.ts';
import { createMultipartUpload, type PartSink } from '../http/multipart-upload.ts';
import { explainS3Error, isS3Error, isUnmet, mayHaveReachedS3 } from './errors.ts';
import { signDigest } from './middleware.ts';
import { abortUpload, listParts } from './list.ts';
import { completionMs } from './client.ts';
import type { S3BucketClient } from './client.ts';
import { headObject } from './read.ts';
import {
  base64,
  objectExists,
  objectHeaders,
  putObject,
  readWriter,
  writerField,
} from './write.ts';
import { createWriterId, unlessDenied, writeOnce } from '../http/conditional-write.ts';

/**
 * The size of each part but the last, in bytes. All parts are alike, as one provider requires; 10,000
 * of them make an object of 156 GiB.
 */
export const partBytes = 16 * 2 ** 20;

/** S3's limit on the parts of one upload. */
const maxParts = 10_000;

/** The time between two looks for the object of a completed upload, in milliseconds. */
const storedCheckMs = 500;

/** An unfinished upload and its stored parts. */
interface Multipart {
  readonly uploadId: string;
  /** See {@link writerField}. */
  readonly writer: string;
  /** By index. */
  readonly parts: CompletedPart[];
}

/** {@link Bucket.upload}: a single PUT for an object of at most one part. */
export function createUpload(
  client: S3BucketClient,
  key: string,
  options: ObjectOptions = {},
): Upload {
  return uploadParts(client, key, options, partBytes);
}

/** @param stored the upload of another process, in parts of `size` bytes */
function uploadParts(
  client: S3BucketClient,
  key: string,
  options: ObjectOptions,
  size: number,
  stored?: Multipart,
): Upload {
  const action = `writing ${quote(key)} in ${client.url}`;
  return createMultipartUpload(multipartSink(client, key, options, size, stored), {
    action,
    partBytes: size,
    partsAtOnce: client.provider.partsAtOnce,
    storedParts: stored?.parts.length ?? 0,
    signal: options.signal,
  });
}

function multipartSink(
  client: S3BucketClient,
  key: string,
  options: ObjectOptions,
  size: number,
  stored: Multipart | undefined,
): PartSink {
  const Key = client.fullKey(key);
  const { signal } = options;
  const action = `writing ${quote(key)} in ${client.url}`;
  const { capabilities, checksums } = client.provider;
  let multipart = stored;

  async function begin(): Promise<Multipart> {
    if (multipart !== undefined) return multipart;
    const writer = createWriterId();
    const uploadId = await client.run({
      action,
      signal,
      attempt: async ({ sdk, s3, sendOptions }) => {
        const command = new sdk.CreateMultipartUploadCommand({
          Bucket: client.bucket,
          Key,
          ...objectHeaders(options),
          Metadata: { [writerField]: writer },
          ...(checksums ? { ChecksumAlgorithm: 'SHA256' as const } : {}),
        });
        return (await s3.send(command, sendOptions)).UploadId;
      },
    });
    if (uploadId === undefined) {
      throw new NicheError(
        'storage-unavailable',
        `${action} failed: the storage returned no upload id`,
      );
    }
    multipart = { uploadId, writer, parts: [] };
    return multipart;
  }

  async function putPart(index: number, body: Uint8Array): Promise<void> {
    if (index >= maxParts) {
      throw new NicheError(
        'too-large',
        `${action} failed: expected at most ${size * maxParts} bytes, got more`,
      );
    }
    const { uploadId, parts } = await begin();
    const digest = hash('sha256', body, 'buffer');
    const checksum = checksums ? { ChecksumSHA256: base64(digest) } : {};
    signDigest(body, digest);
    parts[index] = await client.run({
      action,
      signal,
      attempt: async ({ sdk, s3, sendOptions }) => {
        const command = new sdk.UploadPartCommand({
          Bucket: client.bucket,
          Key,
          UploadId: uploadId,
          PartNumber: index + 1,
          Body: body,
          ...checksum,
        });
        const { ETag } = await s3.send(command, sendOptions);
        return { PartNumber: index + 1, ...(ETag === undefined ? {} : { ETag }), ...checksum };
      },
    });
  }

  async function complete(
    { uploadId, writer, parts }: Multipart,
    ifAbsent: boolean,
  ): Promise<PutOutcome> {
    const isConditional = ifAbsent && capabilities.conditionalComplete;
    if (ifAbsent && !isConditional && (await objectExists(client, key, { signal })))
      return 'exists';
    let attempts = 0;
    const refusal = await writeOnce(client, {
      action,
      signal,
      writer,
      attempt: async ({ sdk, s3, sendOptions }) => {
        attempts += 1;
        const command = new sdk.CompleteMultipartUploadCommand({
          Bucket: client.bucket,
          Key,
          UploadId: uploadId,
          MultipartUpload: { Parts: parts },
          ...(isConditional ? { IfNoneMatch: '*' } : {}),
        });
        const { ETag } = await s3.send(command, {
          ...sendOptions,
          requestTimeout: completionMs,
        });
        // A server that takes long sends its status before it is done, and the result in the body.
        if (ETag === undefined) throw new Error('the response does not contain the result');
      },
      // An attempt whose response was lost leaves no upload to complete.
      isRefused: (error) => isUnmet(error) || isS3Error(error, 'NoSuchUpload'),
      mayHaveHappened: mayHaveReachedS3,
      readWriter: () => readWriter(client, key),
    });
    if (refusal === null) {
      // Some servers report success to a repetition while they still carry out the first attempt.
      if (attempts > 1) await waitUntilStored(client, key, options);
      return 'created';
    }
    if (isUnmet(refusal.error)) return 'exists';
    // Only this writer knows the upload id, so no other writer can have completed it.
    if (refusal.mayBeOurs) return 'created';
    throw explainS3Error(refusal.error, action, client.location).error;
  }

  return {
    begin,
    token: () => multipart && `${multipart.writer}:${multipart.uploadId}`,
    putWhole: (bytes, ifAbsent) => putObject(client, key, bytes, { ...options, ifAbsent }),
    putPart,
    async complete(index, last, ifAbsent) {
      // A resumed upload may have nothing left to send.
      if (last.length > 0) await putPart(index, last);
      return complete(await begin(), ifAbsent);
    },
    async discard() {
      if (multipart === undefined) return;
      await abortUpload(client, Key, multipart.uploadId, `aborting ${action}`);
    },
  };
}

/**
 * Waits until the object of a completed upload is there. Returns at once for credentials that may not
 * look.
 *
 * @throws NicheError `storage-unavailable` when it does not appear in time
 */
async function waitUntilStored(
  client: S3BucketClient,
  key: string,
  { signal }: ObjectOptions,
): Promise<void> {
  const begun = performance.now();
  for (;;) {
    if ((await unlessDenied(headObject(client, key, { signal }), 'denied')) !== null) return;
    if (performance.now() - begun > completionMs) break;
    await sleep(storedCheckMs, undefined, { signal }).catch(() => undefined);
  }
  throw new NicheError(
    'storage-unavailable',
    `writing ${quote(key)} in ${client.url} failed: the storage reported success, but the object is missing`,
    { hint: 'try again' },
  );
}

/** {@link Bucket.resumeUpload}. */
export async function resumeUpload(
  client: S3BucketClient,
  key: string,
  token: string,
  options: ObjectOptions = {},
): Promise<ResumedUpload | null> {
  const [, writer, uploadId] = /^([0-9a-f]{16}):(.+)$/.exec(token) ?? [];
  if (writer === undefined || uploadId === undefined) return null;
  const stored = await listParts(client, client.fullKey(key), uploadId, options.signal);
  if (stored === null) return null;
  // Parts are sent several at once, so one may be missing before later ones. Those are sent again.
  const size = stored[0]?.size ?? partBytes;
  // An upload with checksums cannot be completed with a part whose checksum is unknown.
  const whole = stored.findIndex(
    (part, index) =>
      part.number !== index + 1 ||
      part.size !== size ||
      (client.provider.checksums && part.sha256 === undefined),
  );
  const parts = (whole === -1 ? stored : stored.slice(0, whole)).map((part) => ({
    PartNumber: part.number,
    ETag: part.etag,
    ...(part.sha256 === undefined ? {} : { ChecksumSHA256: part.sha256 }),
  }));
  const begunSize = parts.length === 0 ? partBytes : size;
  return {
    upload: uploadParts(client, key, options, begunSize, { uploadId, writer, parts }),
    storedBytes: parts.length * begunSize,
  };
}

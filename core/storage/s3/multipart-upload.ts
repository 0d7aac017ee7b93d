import { hash } from 'node:crypto';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { NicheError, quote } from '../../errors.ts';
import type { ObjectOptions, PutOutcome, ResumedUpload, Upload } from '../bucket.ts';
import { partedUpload, type PartSink } from '../http/part-buffer.ts';
import { explainS3Error, isS3Error, isUnmet, mayHaveReachedS3 } from './errors.ts';
import { signDigest } from './middleware.ts';
import { abortUpload, listParts } from './list.ts';
import type { S3Session } from './client.ts';
import { base64, isOurs, isSeen, objectHeaders, putObject, writerField } from './write.ts';
import { newWriter } from '../http/conditional-write.ts';

/**
 * Of each part but the last, in bytes: all alike, as one provider demands, and large enough for an
 * object of 156 GiB.
 */
export const partBytes = 16 * 2 ** 20;

/** S3's own limit. */
const maxParts = 10_000;

/** An unfinished upload, and what is stored of it. */
interface Multipart {
  readonly uploadId: string;
  /** See {@link writerField}. */
  readonly writer: string;
  /** By their place. */
  readonly parts: CompletedPart[];
}

/** {@link Bucket.upload}: in parts where it is larger than one, else a single PUT. */
export function createUpload(session: S3Session, key: string, options: ObjectOptions = {}): Upload {
  return uploadParts(session, key, options, partBytes);
}

/** @param stored what another process has stored, in parts of `size` bytes */
function uploadParts(
  session: S3Session,
  key: string,
  options: ObjectOptions,
  size: number,
  stored?: Multipart,
): Upload {
  const action = `writing ${quote(key)} in ${session.url}`;
  return partedUpload(multipartSink(session, key, options, size, stored), {
    action,
    partBytes: size,
    partsAtOnce: session.provider.partsAtOnce,
    storedParts: stored?.parts.length ?? 0,
    signal: options.signal,
  });
}

function multipartSink(
  session: S3Session,
  key: string,
  options: ObjectOptions,
  size: number,
  stored: Multipart | undefined,
): PartSink {
  const Key = session.at(key);
  const { signal } = options;
  const action = `writing ${quote(key)} in ${session.url}`;
  const { capabilities, checksums } = session.provider;
  let multipart = stored;

  async function begin(): Promise<Multipart> {
    if (multipart !== undefined) return multipart;
    const writer = newWriter();
    const uploadId = await session.run({
      action,
      signal,
      attempt: async ({ sdk, client, until }) => {
        const command = new sdk.CreateMultipartUploadCommand({
          Bucket: session.bucket,
          Key,
          ...objectHeaders(options),
          Metadata: { [writerField]: writer },
          ...(checksums ? { ChecksumAlgorithm: 'SHA256' as const } : {}),
        });
        return (await client.send(command, until)).UploadId;
      },
    });
    if (uploadId === undefined) {
      throw new NicheError('storage-unavailable', `${action} failed: the storage began no upload`);
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
    parts[index] = await session.run({
      action,
      signal,
      attempt: async ({ sdk, client, until }) => {
        const command = new sdk.UploadPartCommand({
          Bucket: session.bucket,
          Key,
          UploadId: uploadId,
          PartNumber: index + 1,
          Body: body,
          ...checksum,
        });
        const { ETag } = await client.send(command, until);
        return { PartNumber: index + 1, ...(ETag === undefined ? {} : { ETag }), ...checksum };
      },
    });
  }

  async function complete(
    { uploadId, writer, parts }: Multipart,
    ifAbsent: boolean,
  ): Promise<PutOutcome> {
    const isConditional = ifAbsent && capabilities.conditionalComplete;
    if (ifAbsent && !isConditional && (await isSeen(session, key, { signal }))) return 'exists';
    const earlier = { mayBeDone: false };
    let refusal: unknown;
    const isDone = await session.run({
      action,
      signal,
      attempt: async ({ sdk, client, until }) => {
        const command = new sdk.CompleteMultipartUploadCommand({
          Bucket: session.bucket,
          Key,
          UploadId: uploadId,
          MultipartUpload: { Parts: parts },
          ...(isConditional ? { IfNoneMatch: '*' } : {}),
        });
        try {
          const { ETag } = await client.send(command, until);
          // A server that takes long answers before it is done, and says then how it went.
          if (ETag === undefined) throw new Error('the answer does not say what has become of it');
          return true;
        } catch (error) {
          const isOver = isUnmet(error) || (earlier.mayBeDone && isS3Error(error, 'NoSuchUpload'));
          if (isOver) {
            refusal = error;
            return false;
          }
          earlier.mayBeDone ||= mayHaveReachedS3(error);
          throw error;
        }
      },
    });
    if (isDone) return 'created';
    // An earlier attempt whose answer was lost leaves no upload to complete.
    const isMine = earlier.mayBeDone ? await isOurs(session, key, writer) : false;
    if (isMine === true) return 'created';
    if (isUnmet(refusal)) return 'exists';
    // Whoever may not look knows at least that nobody else could have ended it.
    if (isMine === null) return 'created';
    throw explainS3Error(refusal, action, session.location).error;
  }

  return {
    begin,
    token: () => multipart && `${multipart.writer}:${multipart.uploadId}`,
    putWhole: (bytes, ifAbsent) => putObject(session, key, bytes, { ...options, ifAbsent }),
    putPart,
    async complete(index, last, ifAbsent) {
      // Of an upload that was gone on with nothing may be left to send.
      if (last.length > 0) await putPart(index, last);
      return complete(await begin(), ifAbsent);
    },
    async discard() {
      if (multipart === undefined) return;
      await abortUpload(session, Key, multipart.uploadId, `giving up ${action}`);
    },
  };
}

/** {@link Bucket.resumeUpload}. */
export async function resumeUpload(
  session: S3Session,
  key: string,
  token: string,
  options: ObjectOptions = {},
): Promise<ResumedUpload | null> {
  const [, writer, uploadId] = /^([0-9a-f]{16}):(.+)$/.exec(token) ?? [];
  if (writer === undefined || uploadId === undefined) return null;
  const stored = await listParts(session, session.at(key), uploadId, options.signal);
  if (stored === null) return null;
  // Parts went out several at a time, so one may be missing in between: what follows is sent anew.
  const size = stored[0]?.size ?? partBytes;
  // A part whose checksum is not told cannot be completed with.
  const whole = stored.findIndex(
    (part, index) =>
      part.number !== index + 1 ||
      part.size !== size ||
      (session.provider.checksums && part.sha256 === undefined),
  );
  const parts = (whole === -1 ? stored : stored.slice(0, whole)).map((part) => ({
    PartNumber: part.number,
    ETag: part.etag,
    ...(part.sha256 === undefined ? {} : { ChecksumSHA256: part.sha256 }),
  }));
  const begunSize = parts.length === 0 ? partBytes : size;
  return {
    upload: uploadParts(session, key, options, begunSize, { uploadId, writer, parts }),
    storedBytes: parts.length * begunSize,
  };
}

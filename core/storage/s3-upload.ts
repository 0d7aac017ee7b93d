import { hash } from 'node:crypto';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { NicheError, quote, toError } from '../errors.ts';
import { throwIfAborted } from './aborted.ts';
import type { ObjectOptions, PutOutcome, ResumedUpload, Upload } from './bucket.ts';
import { explainS3Error, isS3Error, mayHaveHappened } from './s3-errors.ts';
import { abortUpload, listParts } from './s3-list.ts';
import type { S3Session } from './s3-session.ts';
import { signDigest } from './s3-headers.ts';
import { base64, isOurs, isSeen, objectHeaders, putObject, writerField } from './s3-write.ts';
import { newWriter } from './writer.ts';

/**
 * Of each part but the last, in bytes: all alike, as one provider demands, and large enough for an
 * object of 156 GiB.
 */
export const partBytes = 16 * 2 ** 20;

/** S3's own limit. */
const maxParts = 10_000;

/** What is stored of an object: nothing as long as it fits into one part. */
interface Multipart {
  readonly uploadId: string;
  /** See {@link writerField}. */
  readonly writer: string;
  readonly parts: CompletedPart[];
}

/**
 * {@link Bucket.upload}: in parts from {@link partBytes} on, else a single PUT. At most
 * `partsAtOnce` parts are under way while one is gathered.
 *
 * @param begun what another process has stored
 */
export function createUpload(
  session: S3Session,
  key: string,
  options: ObjectOptions = {},
  begun?: Multipart & { readonly partBytes: number },
): Upload {
  const Key = session.at(key);
  const { signal } = options;
  const action = `writing ${quote(key)} in ${session.url}`;
  const size = begun?.partBytes ?? partBytes;
  const running = new Set<Promise<void>>();
  let multipart: Multipart | undefined = begun;
  let nextPart = (begun?.parts.length ?? 0) + 1;
  let gathered: Buffer | undefined;
  let gatheredLength = 0;
  let failure: Error | undefined;
  let state: 'open' | 'committing' | 'ended' = 'open';

  function assertOpen(): void {
    throwIfAborted(signal, action);
    if (state !== 'open') {
      throw new NicheError('internal', `${action} failed: the upload has ended`);
    }
  }

  async function begin(): Promise<Multipart> {
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
          ...(session.provider.checksums ? { ChecksumAlgorithm: 'SHA256' as const } : {}),
        });
        return (await client.send(command, until)).UploadId;
      },
    });
    if (uploadId === undefined) {
      throw new NicheError('storage-unavailable', `${action} failed: the storage began no upload`);
    }
    return { uploadId, writer, parts: [] };
  }

  async function sendPart(
    number: number,
    body: Uint8Array,
    uploadId: string,
  ): Promise<CompletedPart> {
    const digest = hash('sha256', body, 'buffer');
    const checksum = session.provider.checksums ? { ChecksumSHA256: base64(digest) } : {};
    return session.run({
      action,
      signal,
      attempt: async ({ sdk, client, until }) => {
        const command = new sdk.UploadPartCommand({
          Bucket: session.bucket,
          Key,
          UploadId: uploadId,
          PartNumber: number,
          Body: body,
          ...checksum,
        });
        signDigest(body, digest);
        const { ETag } = await client.send(command, until);
        return { PartNumber: number, ...(ETag === undefined ? {} : { ETag }), ...checksum };
      },
    });
  }

  /** Sends what is gathered, once fewer than the most parts are under way. */
  async function flush(): Promise<void> {
    if (gathered === undefined || gatheredLength === 0) return;
    const body = gathered.subarray(0, gatheredLength);
    gathered = undefined;
    gatheredLength = 0;
    const number = nextPart;
    nextPart += 1;
    if (number > maxParts) {
      throw new NicheError(
        'too-large',
        `${action} failed: expected at most ${size * maxParts} bytes, got more`,
      );
    }
    const { uploadId, parts } = (multipart ??= await begin());
    while (running.size >= session.provider.partsAtOnce) await Promise.race(running);
    if (failure !== undefined) return;
    const task: Promise<void> = sendPart(number, body, uploadId)
      .then(
        (part) => void parts.push(part),
        (error: unknown) => {
          failure ??= toError(error);
        },
      )
      .finally(() => running.delete(task));
    running.add(task);
  }

  async function settle(): Promise<void> {
    await Promise.all(running);
  }

  /** After a failure nothing new is begun, and what runs is waited for. */
  async function throwFailure(): Promise<void> {
    if (failure === undefined) return;
    await settle();
    throw failure;
  }

  async function complete(
    { uploadId, writer, parts }: Multipart,
    ifAbsent: boolean,
  ): Promise<PutOutcome> {
    const { conditionalComplete } = session.provider.capabilities;
    if (ifAbsent && !conditionalComplete && (await isSeen(session, key, { signal })))
      return 'exists';
    const ordered = parts.toSorted((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0));
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
          MultipartUpload: { Parts: ordered },
          ...(ifAbsent && conditionalComplete ? { IfNoneMatch: '*' } : {}),
        });
        try {
          await client.send(command, until);
          return true;
        } catch (error) {
          const isOver =
            isS3Error(error, 412) || (earlier.mayBeDone && isS3Error(error, 'NoSuchUpload'));
          if (isOver) {
            refusal = error;
            return false;
          }
          earlier.mayBeDone ||= mayHaveHappened(error);
          throw error;
        }
      },
    });
    if (isDone) return 'created';
    // An earlier attempt whose answer was lost leaves no upload to complete.
    if (earlier.mayBeDone && (await isOurs(session, key, writer))) return 'created';
    if (isS3Error(refusal, 412)) return 'exists';
    throw explainS3Error(refusal, action, session.location).error;
  }

  async function discard(): Promise<void> {
    if (multipart === undefined) return;
    await abortUpload(session, Key, multipart.uploadId, `giving up ${action}`);
  }

  return {
    get token() {
      return multipart === undefined ? undefined : `${multipart.writer}:${multipart.uploadId}`;
    },

    async write(chunk) {
      assertOpen();
      for (let taken = 0; taken < chunk.length;) {
        await throwFailure();
        gathered ??= Buffer.allocUnsafeSlow(size);
        const piece = chunk.subarray(taken, taken + size - gatheredLength);
        gathered.set(piece, gatheredLength);
        gatheredLength += piece.length;
        taken += piece.length;
        if (gatheredLength === size) await flush();
      }
    },

    async commit({ ifAbsent = false } = {}) {
      assertOpen();
      state = 'committing';
      await throwFailure();
      if (multipart === undefined && gatheredLength < size) {
        const body = gathered?.subarray(0, gatheredLength) ?? new Uint8Array();
        const outcome = await putObject(session, key, body, { ...options, ifAbsent });
        state = 'ended';
        return outcome;
      }
      await flush();
      await settle();
      await throwFailure();
      const outcome = await complete((multipart ??= await begin()), ifAbsent);
      state = 'ended';
      if (outcome === 'exists') await discard();
      return outcome;
    },

    async abort() {
      if (state === 'ended') return;
      state = 'ended';
      gathered = undefined;
      // A part that arrives after the end of its upload would stay, and cost.
      await settle();
      await discard();
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
  const begun = { uploadId, writer, parts, partBytes: parts.length === 0 ? partBytes : size };
  return {
    upload: createUpload(session, key, options, begun),
    storedBytes: parts.length * begun.partBytes,
  };
}

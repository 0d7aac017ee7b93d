import { createHash } from 'node:crypto';
import { NicheError, quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import { discardBody } from '../../util/transport.ts';
import type { ObjectOptions, PutOutcome, ResumedUpload, Upload } from '../bucket.ts';
import { createWriterId, unlessDenied } from '../http/conditional-write.ts';
import { createMultipartUpload, type PartSink } from '../http/multipart-upload.ts';
import type { GoogleBucketClient } from './client.ts';
import { existsAlready, isGoogleError } from './errors.ts';
import { headObject } from './read.ts';
import {
  deleteSession,
  queryProgress,
  sendChunk,
  type Progress,
  type UploadSession,
} from './upload-session.ts';
import { endpointOf } from './url.ts';
import { putObject, resourceOf, uploadPath } from './write.ts';

/** The size of one part, in bytes; Google requires a multiple of 256 KiB. */
export const partBytes = 8 * 2 ** 20;

/** {@link Bucket.upload}. */
export function uploadObject(
  client: GoogleBucketClient,
  key: string,
  options: ObjectOptions,
): Upload {
  client.objectName(key);
  const action = `writing ${quote(key)} in ${client.url}`;
  const { signal } = options;
  throwIfAborted(signal, action);
  const sink = sessionSink(client, key, options, null);
  return createMultipartUpload(sink, { action, partBytes, partsAtOnce: 1, signal });
}

/**
 * {@link Bucket.resumeUpload}.
 *
 * @param token the generation that will be replaced, a colon, and the session's URI
 */
export async function resumeObject(
  client: GoogleBucketClient,
  key: string,
  token: string,
  options: ObjectOptions,
): Promise<ResumedUpload | null> {
  const name = client.objectName(key);
  const { signal } = options;
  const [, generation, uri] = /^(\d+):(https?:\/\/\S+)$/.exec(token) ?? [];
  if (generation === undefined || uri === undefined || !isSessionOf(client, name, uri)) return null;
  const progress = await client.run({
    action: `finding the stored parts of ${quote(key)} in ${client.url}`,
    signal,
    attempt: (send) => queryProgress(send, uri),
  });
  if (typeof progress === 'string' || progress.stored === 0) return null;
  const storedBytes = progress.stored;
  const sink = sessionSink(client, key, options, { uri, generation, storedBytes });
  return {
    upload: createMultipartUpload(sink, {
      action: `writing ${quote(key)} in ${client.url}`,
      partBytes,
      partsAtOnce: 1,
      storedParts: 1,
      signal,
    }),
    storedBytes,
  };
}

/** Whether `uri` is an upload to this object: requests to it carry the credentials of the bucket. */
function isSessionOf(client: GoogleBucketClient, name: string, uri: string): boolean {
  const { origin, searchParams } = new URL(uri);
  return origin === endpointOf(client.location) && searchParams.get('name') === name;
}

interface ResumedSession extends UploadSession {
  readonly storedBytes: number;
}

/** Sends the parts of one upload to a session, which it starts before the first part. */
function sessionSink(
  client: GoogleBucketClient,
  key: string,
  options: ObjectOptions,
  resumed: ResumedSession | null,
): PartSink {
  const { signal } = options;
  const action = `writing ${quote(key)} in ${client.url}`;
  // The bytes that an earlier process sent are not known here, so the whole hash is not either.
  const md5 = resumed === null ? createHash('md5') : null;
  let session: UploadSession | null = resumed;
  let offset = resumed?.storedBytes ?? 0;

  async function begin(): Promise<UploadSession> {
    session ??= await startSession(client, key, options);
    return session;
  }

  async function send(bytes: Uint8Array, isLast: boolean): Promise<Progress> {
    const { uri } = await begin();
    md5?.update(bytes);
    const chunk = { bytes, offset, isLast, md5: isLast ? md5?.copy().digest('base64') : undefined };
    let attempts = 0;
    const progress = await client.run({
      action,
      signal,
      attempt(request) {
        attempts += 1;
        return sendChunk(request, uri, chunk, attempts > 1);
      },
    });
    offset += bytes.length;
    return progress;
  }

  return {
    begin,
    token: () => (session === null ? undefined : `${session.generation}:${session.uri}`),
    putWhole: (bytes, ifAbsent) => putObject(client, key, bytes, { ...options, ifAbsent }),

    async putPart(_, bytes) {
      const progress = await send(bytes, false);
      if (progress === 'refused') throw overtaken(action);
      if (progress === 'gone' || progress === 'complete') throw dropped(action);
    },

    async complete(_, last, ifAbsent): Promise<PutOutcome> {
      // The object was there when the session began; the session would replace it.
      if (ifAbsent && session !== null && session.generation !== '0') return 'exists';
      const progress = await send(last, true);
      if (progress === 'complete') return 'created';
      if (progress === 'refused' && ifAbsent) return 'exists';
      throw progress === 'gone' ? dropped(action) : overtaken(action);
    },

    async discard() {
      if (session === null) return;
      const { uri } = session;
      await client.run({
        action: `aborting ${action}`,
        attempt: (request) => deleteSession(request, uri),
      });
    },
  };
}

/**
 * Starts a session on the condition that the object does not change until it ends. Whether it may
 * replace an object is decided by `commit`, but a session's condition is fixed at its start.
 *
 * @throws NicheError `storage-unavailable` when another writer changes the object meanwhile
 */
async function startSession(
  client: GoogleBucketClient,
  key: string,
  options: ObjectOptions,
): Promise<UploadSession> {
  const action = `writing ${quote(key)} in ${client.url}`;
  const name = client.objectName(key);
  // Credentials that may only create cannot read the object, and have nothing to replace.
  const present = await unlessDenied(headObject(client, key, options), null);
  const generation = present?.info.etag ?? '0';
  const uri = await client.run({
    action,
    signal: options.signal,
    attempt: async (send) => {
      try {
        const response = await send({
          method: 'POST',
          path: uploadPath(client),
          query: { uploadType: 'resumable', name, ifGenerationMatch: generation },
          headers: { 'content-type': 'application/json; charset=UTF-8' },
          body: JSON.stringify({ ...resourceOf(options, createWriterId()), name }),
        });
        await discardBody(response);
        const { location } = response.headers;
        if (location === undefined) throw new Error('Google returned no address for the upload');
        return location;
      } catch (error) {
        const isRefused = generation === '0' ? existsAlready(error) : isGoogleError(error, 412);
        if (isRefused) return null;
        throw error;
      }
    },
  });
  if (uri === null) throw overtaken(action);
  return { uri, generation };
}

function dropped(action: string): NicheError {
  return new NicheError(
    'storage-unavailable',
    `${action} failed: Google has dropped the unfinished upload`,
    { hint: 'try again' },
  );
}

function overtaken(action: string): NicheError {
  return new NicheError(
    'storage-unavailable',
    `${action} failed: another writer changed the object meanwhile`,
    { hint: 'try again' },
  );
}

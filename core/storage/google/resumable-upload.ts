import { createHash } from 'node:crypto';
import { NicheError, quote } from '../../errors.ts';
import { throwIfAborted } from '../../util/abort.ts';
import type { ObjectOptions, PutOutcome, ResumedUpload, Upload } from '../bucket.ts';
import { headObject } from './read.ts';
import { discardBody } from '../../util/google-rest.ts';
import type { GoogleBucketClient, Send } from './client.ts';
import { putObject, resourceOf, uploadPath } from './write.ts';
import { newWriter, unlessDenied } from '../http/conditional-write.ts';
import { createMultipartUpload, type PartSink } from '../http/part-buffer.ts';
import type { HttpResponse } from '../../util/transport.ts';

/** Of one part, in bytes; a multiple of 256 KiB, as Google asks. */
export const partBytes = 8 * 2 ** 20;

/** Google's answer to a part that is not the last one. */
const resumeIncomplete = 308;
/** Google's answer to the end of a client that nobody goes on with. */
const clientClosed = 499;

/** An upload that Google keeps, for a week. */
interface UploadSession {
  /** Whoever has it may write the rest of the object. */
  readonly uri: string;
  /** Of the object that will be replaced, 0 for none. */
  readonly generation: string;
}

/** What Google has of an upload: its first bytes; or all of it, made an object. */
type Progress = { readonly stored: number } | 'complete' | 'refused' | 'gone';

/** {@link Bucket.upload}. */
export function uploadObject(
  client: GoogleBucketClient,
  key: string,
  options: ObjectOptions,
): Upload {
  client.at(key);
  const action = `writing ${quote(key)} in ${client.url}`;
  throwIfAborted(options.signal, action);
  const sink = sessionSink(client, key, options, undefined, 0);
  return createMultipartUpload(sink, { action, partBytes, partsAtOnce: 1, signal: options.signal });
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
  const name = client.at(key);
  const { signal } = options;
  const [, generation, uri] = /^(\d+):(https?:\/\/\S+)$/.exec(token) ?? [];
  if (generation === undefined || uri === undefined) return null;
  const begun: UploadSession = { uri, generation };
  const progress = await client.run({
    action: `looking for what is left of ${quote(key)} in ${client.url}`,
    signal,
    attempt: (send) => askProgress(send, begun),
  });
  if (typeof progress === 'string' || progress.stored === 0) return null;
  // Another object's client would be gone on with under this one's name.
  if (new URL(uri).searchParams.get('name') !== name) return null;
  const { stored } = progress;
  return {
    upload: createMultipartUpload(sessionSink(client, key, options, begun, stored), {
      action: `writing ${quote(key)} in ${client.url}`,
      partBytes,
      partsAtOnce: 1,
      storedParts: 1,
      signal,
    }),
    storedBytes: stored,
  };
}

/** @param stored how many bytes the client has already */
function sessionSink(
  client: GoogleBucketClient,
  key: string,
  options: ObjectOptions,
  resumed: UploadSession | undefined,
  stored: number,
): PartSink {
  const { signal } = options;
  const name = client.at(key);
  const action = `writing ${quote(key)} in ${client.url}`;
  // Of what an earlier process sent nothing is known here.
  const md5 = resumed === undefined ? createHash('md5') : null;
  let begun = resumed;
  let offset = stored;

  async function begin(): Promise<UploadSession> {
    if (begun !== undefined) return begun;
    // The condition is a client's, and `commit` may come with or without one. Whoever may only
    // create has nothing to replace.
    const present = await unlessDenied(headObject(client, key, options), null);
    const generation = present?.info.etag ?? '0';
    const uri = await client.run({
      action,
      signal,
      attempt: async (send) => {
        const resource = { ...resourceOf(options, newWriter()), name };
        const answer = await send({
          method: 'POST',
          path: uploadPath(client),
          query: { uploadType: 'resumable', name, ifGenerationMatch: generation },
          headers: { 'content-type': 'application/json; charset=UTF-8' },
          body: JSON.stringify(resource),
          accept: [412],
        });
        await discardBody(answer);
        if (answer.status === 412) return null;
        const { location } = answer.headers;
        if (location === undefined) throw new Error('Google does not say where the upload goes');
        return location;
      },
    });
    if (uri === null) throw overtaken();
    begun = { uri, generation };
    return begun;
  }

  function overtaken(): NicheError {
    return new NicheError(
      'storage-unavailable',
      `${action} failed: another writer has changed the object meanwhile`,
      { hint: 'try again' },
    );
  }

  /** Sends what the client lacks of `bytes`, which begin at `offset`. */
  async function send(bytes: Uint8Array, isLast: boolean): Promise<Progress> {
    const { uri } = await begin();
    const end = offset + bytes.length;
    let from = offset;
    let isRepeated = false;
    const progress = await client.run<Progress>({
      action,
      signal,
      attempt: async (request) => {
        if (isRepeated) {
          const before = await askProgress(request, { uri });
          if (typeof before === 'string') return before;
          // What it had said that it has is not here any more.
          if (before.stored < offset) return 'gone';
          from = before.stored;
        }
        isRepeated = true;
        while (true) {
          const rest = bytes.subarray(from - offset);
          const after = readProgress(
            await request({
              method: 'PUT',
              path: uri,
              headers: {
                'content-length': String(rest.length),
                'content-range': `bytes ${rest.length === 0 ? '*' : `${from}-${end - 1}`}/${isLast ? end : '*'}`,
                ...(isLast && md5 !== null
                  ? { 'x-goog-hash': `md5=${md5.copy().digest('base64')}` }
                  : {}),
              },
              body: rest,
              accept: sessionAnswers,
            }).then(drained),
          );
          if (typeof after === 'string') return after;
          if (after.stored >= end && !isLast) return after;
          if (after.stored <= from) {
            throw new Error(`Google took ${rest.length} bytes and stored nothing of them`);
          }
          from = after.stored;
        }
      },
    });
    offset = end;
    return progress;
  }

  return {
    begin,
    token: () => (begun === undefined ? undefined : `${begun.generation}:${begun.uri}`),
    putWhole: (bytes, ifAbsent) => putObject(client, key, bytes, { ...options, ifAbsent }),

    async putPart(_, bytes) {
      md5?.update(bytes);
      const progress = await send(bytes, false);
      if (progress === 'refused') throw overtaken();
      if (progress === 'gone' || progress === 'complete') {
        throw new NicheError(
          'storage-unavailable',
          `${action} failed: Google has dropped the unfinished upload`,
          { hint: 'try again' },
        );
      }
    },

    async complete(_, last, ifAbsent): Promise<PutOutcome> {
      // It was there when the upload began: nothing of it is to be replaced.
      if (ifAbsent && begun !== undefined && begun.generation !== '0') return 'exists';
      md5?.update(last);
      const progress = await send(last, true);
      if (progress === 'complete') return 'created';
      if (progress === 'refused' && ifAbsent) return 'exists';
      throw overtaken();
    },

    async discard() {
      const uri = begun?.uri;
      if (uri === undefined) return;
      await client.run({
        action: `giving up ${action}`,
        attempt: async (request) => {
          const accept = [clientClosed, ...sessionAnswers];
          await discardBody(await request({ method: 'DELETE', path: uri, accept }));
        },
      });
    },
  };
}

/** 404 and 410: the client is over, and long ago, or was given up. */
const sessionAnswers = [resumeIncomplete, 404, 410, 412];

async function askProgress(send: Send, { uri }: Pick<UploadSession, 'uri'>): Promise<Progress> {
  return readProgress(
    await drained(
      await send({
        method: 'PUT',
        path: uri,
        headers: { 'content-length': '0', 'content-range': 'bytes */*' },
        accept: sessionAnswers,
      }),
    ),
  );
}

function readProgress({ status, headers }: HttpResponse): Progress {
  if (status === 412) return 'refused';
  if (status === 404 || status === 410) return 'gone';
  if (status !== resumeIncomplete) return 'complete';
  const last = /-(\d+)$/.exec(headers['range'] ?? '')?.[1];
  return { stored: last === undefined ? 0 : Number(last) + 1 };
}

async function drained(answer: HttpResponse): Promise<HttpResponse> {
  await discardBody(answer);
  return answer;
}

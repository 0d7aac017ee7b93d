import { discardBody, type HttpResponse } from '../../util/transport.ts';
import type { Send } from './client.ts';
import { existsAlready } from './errors.ts';

/**
 * A resumable upload that Google keeps for a week.
 *
 * @see https://cloud.google.com/storage/docs/performing-resumable-uploads
 */
export interface UploadSession {
  /** A credential: it lets its holder write the rest of the object. */
  readonly uri: string;
  /** The generation of the object that will be replaced; 0 for none. */
  readonly generation: string;
}

/**
 * The state of a session: how many of the first bytes are stored; or the object exists, its
 * condition did not hold, or the session is gone.
 */
export type Progress = { readonly stored: number } | 'complete' | 'refused' | 'gone';

/** Bytes of the object, which begin at `offset`. */
export interface Chunk {
  readonly bytes: Uint8Array;
  readonly offset: number;
  /** Whether the object ends with this chunk. Each other one has a multiple of 256 KiB. */
  readonly isLast: boolean;
  /** Of the whole object, base64; sent with the last chunk where it is known. */
  readonly md5?: string | undefined;
}

/** The response to any chunk but the last. */
const resumeIncomplete = 308;
/** The response to the deletion of a session. */
const clientClosed = 499;
/** 404 and 410: the session was deleted, or has ended long ago. 412: its condition did not hold. */
const sessionStatuses = [resumeIncomplete, 404, 410, 412];

/** Returns how much of the upload is stored. */
export async function queryProgress(send: Send, uri: string): Promise<Progress> {
  return readProgress(
    await send({
      method: 'PUT',
      path: uri,
      headers: { 'content-length': '0', 'content-range': 'bytes */*' },
      accept: sessionStatuses,
    }),
  );
}

/**
 * Sends the bytes of `chunk` that the session lacks, in as many requests as Google needs.
 *
 * @param isRetry whether an earlier call may have stored part of the chunk
 * @throws Error when Google stores none of the bytes of a request
 */
export async function sendChunk(
  send: Send,
  uri: string,
  chunk: Chunk,
  isRetry: boolean,
): Promise<Progress> {
  const end = chunk.offset + chunk.bytes.length;
  let from = chunk.offset;
  if (isRetry) {
    const before = await queryProgress(send, uri);
    if (typeof before === 'string') return before;
    // Bytes that Google had confirmed are lost.
    if (before.stored < chunk.offset) return 'gone';
    from = before.stored;
  }
  for (;;) {
    const progress = await sendFrom(send, uri, chunk, from);
    if (typeof progress === 'string') return progress;
    if (progress.stored >= end && !chunk.isLast) return progress;
    if (progress.stored <= from) {
      throw new Error(`Google stored none of the ${end - from} bytes that it received`);
    }
    from = progress.stored;
  }
}

/** Deletes a session and what is stored of it. */
export async function deleteSession(send: Send, uri: string): Promise<void> {
  const accept = [clientClosed, ...sessionStatuses];
  await discardBody(await send({ method: 'DELETE', path: uri, accept }));
}

async function sendFrom(send: Send, uri: string, chunk: Chunk, from: number): Promise<Progress> {
  const { bytes, offset, isLast, md5 } = chunk;
  const end = offset + bytes.length;
  const rest = bytes.subarray(from - offset);
  const range = rest.length === 0 ? '*' : `${from}-${end - 1}`;
  const headers = {
    'content-length': String(rest.length),
    'content-range': `bytes ${range}/${isLast ? end : '*'}`,
    ...(isLast && md5 !== undefined ? { 'x-goog-hash': `md5=${md5}` } : {}),
  };
  try {
    return await readProgress(
      await send({ method: 'PUT', path: uri, headers, body: rest, accept: sessionStatuses }),
    );
  } catch (error) {
    if (existsAlready(error)) return 'refused';
    throw error;
  }
}

async function readProgress(response: HttpResponse): Promise<Progress> {
  await discardBody(response);
  const { status, headers } = response;
  if (status === 412) return 'refused';
  if (status === 404 || status === 410) return 'gone';
  if (status !== resumeIncomplete) return 'complete';
  const last = /-(\d+)$/.exec(headers['range'] ?? '')?.[1];
  return { stored: last === undefined ? 0 : Number(last) + 1 };
}

import { setTimeout as sleep } from 'node:timers/promises';

import { NicheError, messageOf, quote } from '../errors.ts';
import type { Bucket, GetOptions, ObjectInfo, RequestOptions, StoredObject } from './bucket.ts';
import { assertKey } from './keys.ts';

/** What can be read: a {@link Bucket}, or a cache behind HTTP. */
export type ObjectReader = Pick<Bucket, 'url' | 'head' | 'get'>;

export interface HttpOptions {
  /** For the answer's headers, and then for each chunk, in milliseconds. @default 10,000 */
  readonly timeoutMs?: number;
  /** Tries after the first one has failed. @default 2 */
  readonly retries?: number;
}

/** Before the first retry, in milliseconds; doubles with each, with jitter. */
const firstBackoffMs = 200;
/** The longest that a server's `Retry-After` is honoured, in milliseconds. */
const maxRetryAfterMs = 5_000;

/**
 * Reads a cache over HTTP, as Nix would. S3 answers 403 for an absent key to whoever may not list,
 * so 403 counts as missing once `nix-cache-info` of the same base has answered 200.
 *
 * @throws NicheError `invalid-url`; its methods throw `storage-denied`, `storage-unavailable`
 */
export function openHttpReader(baseUrl: string, options: HttpOptions = {}): ObjectReader {
  const { timeoutMs = 10_000, retries = 2 } = options;
  assertHttpUrl(baseUrl);
  const url = baseUrl.replace(/\/+$/, '');
  let readable: Promise<boolean> | undefined;

  async function request(method: string, key: string, init: GetOptions): Promise<Response> {
    const headers = init.range
      ? {
          range: `bytes=${init.range.start}-${init.range.end === undefined ? '' : init.range.end - 1}`,
        }
      : {};
    for (let attempt = 0; ; attempt += 1) {
      let failure: NicheError;
      let waitMs = firstBackoffMs * 2 ** attempt * (0.5 + Math.random());
      try {
        const signals = [AbortSignal.timeout(timeoutMs), ...(init.signal ? [init.signal] : [])];
        const response = await fetch(`${url}/${key}`, {
          method,
          headers,
          signal: AbortSignal.any(signals),
        });
        if (response.status < 500 && response.status !== 429) return response;
        await response.body?.cancel();
        waitMs = Math.max(waitMs, retryAfterMs(response));
        failure = unavailable(url, key, `it answered ${response.status}`);
      } catch (cause) {
        init.signal?.throwIfAborted();
        failure = unavailable(url, key, messageOf(causeOf(cause)), cause);
      }
      if (attempt >= retries) throw failure;
      await sleep(waitMs, undefined, { signal: init.signal });
    }
  }

  async function isMissing(response: Response, key: string): Promise<boolean> {
    if (response.status === 404 || response.status === 410) return true;
    if (response.status !== 403 && response.status !== 401) return false;
    readable ??= request('GET', 'nix-cache-info', {}).then(async (info) => {
      await info.body?.cancel();
      return info.ok;
    });
    if (response.status === 403 && (await readable)) return true;
    throw new NicheError(
      'storage-denied',
      `${url}/${key} may not be read: it answered ${response.status}`,
    );
  }

  async function open(method: string, key: string, init: GetOptions): Promise<Response | null> {
    assertKey(key);
    const response = await request(method, key, init);
    if (response.ok) return response;
    await response.body?.cancel();
    if (await isMissing(response, key)) return null;
    throw unavailable(url, key, `it answered ${response.status}`);
  }

  return {
    url,
    async head(key, init: RequestOptions = {}) {
      const response = await open('HEAD', key, init);
      return response && objectInfo(key, response);
    },
    async get(key, init: GetOptions = {}): Promise<StoredObject | null> {
      const response = await open('GET', key, init);
      if (!response) return null;
      return { info: objectInfo(key, response), body: bodyOf(response, url, key) };
    },
  };
}

function assertHttpUrl(text: string): void {
  const url = /^https?:\/\/[^/]/i.test(text) ? URL.parse(text) : null;
  if (url?.username === '' && url.password === '' && !/[?#]/.test(text)) return;
  // A password or a token may be in it, which no message is to hold.
  const got = /[@?#]/.test(text) ? 'one with a user, a query or a fragment' : quote(text);
  throw new NicheError(
    'invalid-url',
    `opening a cache over HTTP: expected http://host/path or https://host/path, got ${got}`,
  );
}

async function* bodyOf(response: Response, url: string, key: string): AsyncIterable<Uint8Array> {
  if (!response.body) return;
  try {
    for await (const chunk of response.body) yield chunk;
  } catch (cause) {
    throw unavailable(url, key, `its body broke off: ${messageOf(cause)}`, cause);
  }
}

function objectInfo(key: string, response: Response): ObjectInfo {
  const { headers } = response;
  return {
    key,
    size: Number(headers.get('content-length') ?? 0),
    modified: new Date(headers.get('last-modified') ?? 0),
    etag: headers.get('etag') ?? '',
  };
}

function unavailable(url: string, key: string, why: string, cause?: unknown): NicheError {
  return new NicheError('storage-unavailable', `cannot read ${url}/${key}: ${why}`, { cause });
}

/** fetch wraps what went wrong ("fetch failed") around what did (ECONNREFUSED …). */
function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}

function retryAfterMs(response: Response): number {
  const seconds = Number(response.headers.get('retry-after') ?? 0);
  return Number.isFinite(seconds) ? Math.min(seconds * 1000, maxRetryAfterMs) : 0;
}

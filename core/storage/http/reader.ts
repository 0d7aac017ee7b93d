import { NicheError, quote } from '../../errors.ts';
import { createRetrier, type Failure, type RetryOptions } from '../../util/retry.ts';
import type { Login } from '../../util/netrc.ts';
import { shellWord } from '../../util/shell.ts';
import { hasCredentials } from '../../util/url-credentials.ts';
import type { GetOptions, ObjectInfo, ObjectReader, StoredObject } from '../bucket.ts';
import { assertKey } from '../keys.ts';
import {
  clipRange,
  parseContentRange,
  rangeHeader,
  type ByteRange,
  type ContentRange,
} from '../range.ts';
import { decodeBody, isEncoded } from './content-encoding.ts';
import { judgeHttp, systemError, toFailure, type HttpFailure, type Verdict } from './failure.ts';
import { followRedirects } from './follow-redirects.ts';
import { emptyObject } from './ranged-read.ts';
import { resumingBody, type MinimumProgress } from './resuming-body.ts';
import { createTransport, discardBody, type HttpResponse } from '../../util/transport.ts';

export interface HttpReaderOptions {
  /** The longest time without a sign of life from the server, in milliseconds. @default 10,000 */
  readonly idleTimeoutMs?: number;
  /** The slowest acceptable body. */
  readonly progress?: MinimumProgress;
  /**
   * For basic authentication; a redirect to another origin does not get it. A function is called once,
   * before the first request.
   */
  readonly login?: Login | (() => Promise<Login | undefined> | undefined) | undefined;
  /** @default three attempts, as a client has other caches to try */
  readonly retry?: RetryOptions;
}

const defaultRetry: RetryOptions = { maxAttempts: 3, firstBackoffMs: 200, maxBackoffMs: 5_000 };

/** A response with a status that a reader did not expect. */
export class HttpStatusError extends Error {
  override readonly name = 'HttpStatusError';
  readonly status: number;
  readonly retryAfter: string | undefined;

  constructor({ status, headers }: Pick<HttpResponse, 'status' | 'headers'>) {
    super('unexpected response');
    this.status = status;
    this.retryAfter = headers['retry-after'];
  }
}

/**
 * Reads a cache over HTTP, as Nix would. A body that breaks off is resumed where the server has a
 * strong etag for the object. 404 and 410 mean missing; 401 and 403 mean denied.
 *
 * @throws NicheError `invalid-url`. Its methods throw `invalid-key`, `storage-denied`,
 *   `storage-unavailable` and `aborted`
 */
export function openHttpReader(baseUrl: string, options: HttpReaderOptions = {}): ObjectReader {
  const { idleTimeoutMs = 10_000, login, progress } = options;
  assertHttpUrl(baseUrl);
  const url = baseUrl.replace(/\/+$/, '');
  const send = followRedirects(createTransport(idleTimeoutMs));
  const retrier = createRetrier({ ...defaultRetry, ...options.retry });
  const commonHeaders = {
    'user-agent': 'niche',
    // The length and the range are then those of the object itself.
    'accept-encoding': 'identity',
  };
  let hasLogin = false;
  let authorization: Promise<Readonly<Record<string, string>>> | undefined;

  async function authorize(): Promise<Readonly<Record<string, string>>> {
    const found = typeof login === 'function' ? await login() : login;
    hasLogin = found !== undefined;
    return found === undefined ? {} : { authorization: basic(found) };
  }

  /** @returns `gone` when there is no such object, `beyond` when the range begins after its end */
  function request(
    method: 'GET' | 'HEAD',
    key: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse | 'gone' | 'beyond'> {
    const action = `reading ${url}/${key}`;
    return retrier.run<HttpResponse | 'gone' | 'beyond'>({
      action,
      signal,
      explain: (error) => explain(error, action, { url, hasLogin }),
      async attempt() {
        const response = await send({
          method,
          url: `${url}/${encodeKey(key)}`,
          headers: { ...commonHeaders, ...(await (authorization ??= authorize())), ...headers },
          signal,
        });
        if (response.status >= 200 && response.status < 300) return response;
        await discardBody(response);
        if (response.status === 404 || response.status === 410) return 'gone';
        if (response.status === 412 && 'if-match' in headers) return 'gone';
        if (response.status === 416 && 'range' in headers) return 'beyond';
        throw new HttpStatusError(response);
      },
    });
  }

  async function head(key: string, signal: AbortSignal | undefined): Promise<ObjectInfo | null> {
    assertKey(key);
    const response = await request('HEAD', key, {}, signal);
    if (typeof response === 'string') return null;
    await discardBody(response);
    return objectInfo(key, response);
  }

  /** Opens the rest of the object whose etag is `etag`; null where it is another one by now. */
  async function reopen(
    info: ObjectInfo,
    rest: ByteRange,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse | null> {
    const headers = { ...rangeHeaders(rest), 'if-match': info.etag };
    const response = await request('GET', info.key, headers, signal);
    if (typeof response === 'string') return null;
    const again = objectInfo(info.key, response);
    // Not every server honours the condition.
    const isSame = again.etag === info.etag && again.size === info.size;
    if (isSame && firstByte(response) === rest.start) return response;
    response.body.destroy();
    if (!isSame) return null;
    throw new NicheError(
      'storage-unavailable',
      `reading ${url}/${info.key} failed: its body broke off, and the server does not serve ranges`,
    );
  }

  return {
    url,
    head: (key, init) => head(key, init?.signal),
    async get(key, { range, signal }: GetOptions = {}): Promise<StoredObject | null> {
      assertKey(key);
      const action = `reading ${url}/${key}`;
      const requested = clipRange(range, Number.MAX_SAFE_INTEGER);
      const response =
        requested.start === requested.end
          ? 'beyond'
          : await request('GET', key, rangeHeaders(requested), signal);
      if (response === 'gone') return null;
      // HTTP has no empty range, and an empty object has no range at all.
      if (response === 'beyond') return emptyObject(await head(key, signal), requested, action);
      const info = objectInfo(key, response);
      // A server may send the whole object for a part of it.
      const first = firstByte(response);
      if (first === undefined || first > requested.start) {
        response.body.destroy();
        throw new NicheError(
          'storage-unavailable',
          `${action} failed: expected the bytes from ${requested.start} on, got others`,
        );
      }
      const isResumable = isStrongEtag(info.etag) && info.size !== undefined;
      return {
        info,
        body: resumingBody({
          action,
          signal,
          progress,
          range: info.size === undefined ? openEnded(requested) : clipRange(range, info.size),
          first: decodeBody(response),
          skip: requested.start - first,
          reopen: isResumable
            ? async (rest) => (await reopen(info, rest, signal))?.body ?? null
            : null,
        }),
      };
    },
  };
}

interface Server {
  readonly url: string;
  /** Whether requests have a login. */
  readonly hasLogin: boolean;
}

function explain(error: unknown, action: string, server: Server): Failure {
  const failure: HttpFailure =
    error instanceof HttpStatusError
      ? { status: error.status, message: error.message, retryAfter: error.retryAfter }
      : systemError(error);
  return toFailure(failure, judge(failure, server), action, error);
}

function judge(failure: HttpFailure, { url, hasLogin }: Server): Verdict {
  const { status } = failure;
  if (status === 401 && hasLogin) {
    const hint = `check the entry of ${new URL(url).hostname} in the netrc file`;
    return { kind: 'final', code: 'storage-denied', why: 'the server refuses the login', hint };
  }
  if (status === 401) {
    const hint = `niche use ${shellWord(url)} --netrc FILE`;
    return { kind: 'final', code: 'storage-denied', why: 'the server requires a login', hint };
  }
  if (status === 403) return { kind: 'final', code: 'storage-denied', why: 'access denied' };
  if (status !== undefined && status >= 300 && status < 400) {
    const why = 'the server redirects to plain HTTP, to another protocol, or too often';
    return { kind: 'final', code: 'storage-unavailable', why };
  }
  if (status === 429 || status === 503) {
    // Not `throttled`: such requests are repeated for minutes.
    const why = 'the server is overloaded or down';
    return { kind: 'transient', code: 'storage-unavailable', why };
  }
  return judgeHttp(failure);
}

function basic({ login, password }: Login): string {
  return `Basic ${Buffer.from(`${login}:${password}`).toString('base64')}`;
}

function rangeHeaders(range: ByteRange): Readonly<Record<string, string>> {
  const value = rangeHeader(range);
  return value === undefined ? {} : { range: value };
}

/** The end of an object of unknown size is the end of its body. */
function openEnded({ start, end }: ByteRange): ByteRange {
  return { start, end: end === Number.MAX_SAFE_INTEGER ? Infinity : end };
}

/** Whether equal etags mean equal bytes (RFC 9110, section 8.8.1). */
function isStrongEtag(etag: string): boolean {
  return etag.startsWith('"');
}

function assertHttpUrl(text: string): void {
  const url = /^https?:\/\/[^/]/i.test(text) ? URL.parse(text) : null;
  if (url?.username === '' && url.password === '' && !/[?#]/.test(text)) return;
  throw new NicheError(
    'invalid-url',
    `opening a cache over HTTP: expected http://host/path or https://host/path, got ${describe(text, url)}`,
  );
}

/** A user, a value of a parameter or a fragment may be a secret, which no message shows. */
function describe(text: string, url: URL | null): string {
  if (hasCredentials(text)) return 'a user or a password';
  const [name] = url?.searchParams.keys() ?? [];
  if (name !== undefined) return `the parameter ${quote(name)}`;
  return /[?#]/.test(text) ? 'a query or a fragment' : quote(text);
}

/**
 * Encodes `+`, which S3 decodes as a space. A `?` begins a query: Harmonia's narinfos have URLs such as
 * `nar/….nar?hash=…`.
 */
function encodeKey(key: string): string {
  return key.replaceAll('+', '%2B');
}

function objectInfo(key: string, response: HttpResponse): ObjectInfo {
  const { headers } = response;
  const modified = Date.parse(headers['last-modified'] ?? '');
  return {
    key,
    size: sizeOf(response),
    modified: new Date(Number.isNaN(modified) ? 0 : modified),
    etag: headers['etag'] ?? '',
  };
}

function sizeOf(response: HttpResponse): number | undefined {
  if (response.status === 206) return partOf(response)?.total;
  // The length of an encoded body is not the object's.
  const length = isEncoded(response) ? undefined : response.headers['content-length'];
  return length === undefined ? undefined : Number(length);
}

/** Returns the number of the object's byte with which the body begins; undefined if not stated. */
function firstByte(response: HttpResponse): number | undefined {
  return response.status === 206 ? partOf(response)?.first : 0;
}

/** Returns which part of the object the body is; null where that is not known. */
function partOf(response: HttpResponse): ContentRange | null {
  // A part of an encoded body is not a part of the object.
  return isEncoded(response) ? null : parseContentRange(response.headers['content-range']);
}

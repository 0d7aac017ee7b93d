import { setTimeout as sleep } from 'node:timers/promises';

import { throwIfAborted } from '../../util/abort.ts';
import { NicheError, messageOf, quote } from '../../errors.ts';
import { shellWord } from '../../util/shell.ts';
import { judgeHttp, systemError, type Verdict } from './failure.ts';
import type {
  GetOptions,
  ObjectInfo,
  ObjectReader,
  RequestOptions,
  StoredObject,
} from '../bucket.ts';
import { assertKey } from '../keys.ts';
import { clipRange, rangeHeader, type ByteRange } from '../range.ts';

export interface HttpOptions {
  /** For the answer's headers, and then for each chunk, in milliseconds. @default 10,000 */
  readonly timeoutMs?: number;
  /** What the server asks for; it goes to no other host. */
  readonly login?: { readonly login: string; readonly password: string } | undefined;
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
  const { timeoutMs = 10_000, retries = 2, login } = options;
  assertHttpUrl(baseUrl);
  const url = baseUrl.replace(/\/+$/, '');
  let isReadable = false;

  async function request(method: string, key: string, init: GetOptions): Promise<Answer> {
    const range = rangeHeader(clipRange(init.range, Number.MAX_SAFE_INTEGER));
    const headers: Record<string, string> = {
      // Lengths are then those of the object, and not of what became of it on the way.
      'accept-encoding': 'identity',
      ...(range === undefined ? {} : { range }),
    };
    // fetch leaves it out where a redirect leads to another host.
    if (login) headers['authorization'] = basic(login);
    for (let attempt = 0; ; attempt += 1) {
      let failure: NicheError;
      let waitMs = firstBackoffMs * 2 ** attempt * (0.5 + Math.random());
      const deadline = createDeadline(timeoutMs, init.signal);
      try {
        const response = await fetch(`${url}/${key}`, { method, headers, signal: deadline.signal });
        if (response.status < 500 && response.status !== 429) return { response, deadline };
        await response.body?.cancel();
        waitMs = Math.max(waitMs, retryAfterMs(response));
        failure = unavailable(url, key, `it answered ${response.status}`);
        deadline.end();
      } catch (cause) {
        deadline.end();
        throwIfAborted(init.signal, `reading ${url}/${key}`);
        const verdict = judgeHttp(describe(cause));
        failure = unreachable(url, key, verdict, cause);
        if (verdict.kind === 'final') throw failure;
      }
      if (attempt >= retries) throw failure;
      await sleep(waitMs, undefined, { signal: init.signal }).catch(() => undefined);
      throwIfAborted(init.signal, `reading ${url}/${key}`);
    }
  }

  async function release({ response, deadline }: Answer): Promise<void> {
    await response.body?.cancel().catch(() => undefined);
    deadline.end();
  }

  async function isMissing(response: Response, key: string, init: GetOptions): Promise<boolean> {
    if (response.status === 404 || response.status === 410) return true;
    if (response.status !== 403 && response.status !== 401) return false;
    if (response.status === 403) {
      if (!isReadable) {
        const info = await request('GET', 'nix-cache-info', init);
        await release(info);
        isReadable = info.response.ok;
      }
      if (isReadable) return true;
    }
    throw new NicheError(
      'storage-denied',
      `${url}/${key} may not be read: it answered ${response.status}`,
      response.status === 401
        ? { hint: `it asks for a login: niche use ${shellWord(url)} --netrc FILE gives it to Nix` }
        : {},
    );
  }

  async function open(method: string, key: string, init: GetOptions): Promise<Answer | null> {
    assertKey(key);
    const answer = await request(method, key, init);
    if (answer.response.ok) return answer;
    await release(answer);
    if (await isMissing(answer.response, key, init)) return null;
    throw unavailable(url, key, `it answered ${answer.response.status}`);
  }

  /** @param wanted of the answer's own bytes */
  async function* bodyOf(
    answer: Answer,
    key: string,
    wanted: ByteRange,
    init: GetOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { response, deadline } = answer;
    try {
      deadline.extend();
      let position = 0;
      for await (const chunk of response.body ?? []) {
        const from = Math.max(0, wanted.start - position);
        const piece = chunk.subarray(from, Math.max(from, wanted.end - position));
        position += chunk.length;
        // However long the reader takes over a chunk, the server is not to blame.
        deadline.end();
        if (piece.length > 0) yield piece;
        if (position >= wanted.end) return;
        deadline.extend();
      }
    } catch (cause) {
      throwIfAborted(init.signal, `reading ${url}/${key}`);
      throw unavailable(url, key, `its body broke off: ${messageOf(causeOf(cause))}`, cause);
    } finally {
      deadline.end();
    }
  }

  return {
    url,
    async head(key, init: RequestOptions = {}) {
      const answer = await open('HEAD', key, init);
      if (!answer) return null;
      await release(answer);
      return objectInfo(key, answer.response);
    },
    async get(key, init: GetOptions = {}): Promise<StoredObject | null> {
      const { start, end } = clipRange(init.range, Number.MAX_SAFE_INTEGER);
      const answer = await open('GET', key, init);
      if (!answer) return null;
      // Until its body is asked for, the answer waits for the reader.
      answer.deadline.end();
      const info = objectInfo(key, answer.response);
      // A server may bring the whole for a part.
      const first = beginning(answer.response);
      if (first > start || Number.isNaN(first)) {
        await release(answer);
        throw unavailable(url, key, `expected the bytes from ${start} on, got others`);
      }
      const chunks = bodyOf(answer, key, { start: start - first, end: end - first }, init);
      const iterator: AsyncIterator<Uint8Array, void, undefined> = {
        next: () => chunks.next(),
        // That of a generator which was never begun would leave the connection open.
        async return() {
          await release(answer);
          return chunks.return();
        },
      };
      return { info, body: { [Symbol.asyncIterator]: () => iterator } };
    },
  };
}

function basic({ login, password }: { login: string; password: string }): string {
  return `Basic ${Buffer.from(`${login}:${password}`).toString('base64')}`;
}

interface Answer {
  readonly response: Response;
  readonly deadline: Deadline;
}

/** Aborts what waits for a server for too long, or whose caller has given up. */
interface Deadline {
  readonly signal: AbortSignal;
  /** Gives the server its whole time again, from now. */
  extend(): void;
  /** The server is not waited for any more. */
  end(): void;
}

function createDeadline(timeoutMs: number, caller: AbortSignal | undefined): Deadline {
  const tooLate = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const end = (): void => {
    clearTimeout(timer);
  };
  const extend = (): void => {
    end();
    timer = setTimeout(() => {
      tooLate.abort(new Error(`no answer within ${timeoutMs} ms`));
    }, timeoutMs);
  };
  extend();
  const signal = caller ? AbortSignal.any([tooLate.signal, caller]) : tooLate.signal;
  return { signal, extend, end };
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

function objectInfo(key: string, response: Response): ObjectInfo {
  const { headers } = response;
  const total = /\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1];
  // fetch decodes what is encoded all the same, so that the length is not the object's.
  const length = headers.has('content-encoding') ? null : headers.get('content-length');
  return {
    key,
    size: Number(total ?? length ?? NaN),
    modified: new Date(headers.get('last-modified') ?? 0),
    etag: headers.get('etag') ?? '',
  };
}

/** At which of the object's bytes the answer's body begins. */
function beginning({ status, headers }: Response): number {
  if (status !== 206) return 0;
  return Number(/^bytes (\d+)-/.exec(headers.get('content-range') ?? '')?.[1]);
}

function unavailable(url: string, key: string, why: string, cause?: unknown): NicheError {
  return new NicheError('storage-unavailable', `cannot read ${url}/${key}: ${why}`, { cause });
}

function unreachable(url: string, key: string, verdict: Verdict, cause: unknown): NicheError {
  const { code, message } = describe(cause);
  const why = verdict.why === undefined ? message : `${verdict.why} (${code ?? message})`;
  return new NicheError('storage-unavailable', `cannot read ${url}/${key}: ${why}`, {
    cause,
    ...(verdict.hint === undefined ? {} : { hint: verdict.hint }),
  });
}

function describe(error: unknown): {
  readonly code?: string | undefined;
  readonly message: string;
} {
  const { code, message } = systemError(causeOf(error));
  return { code, message: /[\r\n]/.test(message) ? quote(message.trim()) : message };
}

/** fetch wraps what went wrong ("fetch failed") around what did (ECONNREFUSED …). */
function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}

function retryAfterMs(response: Response): number {
  const seconds = Number(response.headers.get('retry-after') ?? 0);
  return Number.isFinite(seconds) ? Math.min(seconds * 1000, maxRetryAfterMs) : 0;
}

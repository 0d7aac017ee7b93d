import type { Storage } from '@google-cloud/storage';
import { setTimeout as sleep } from 'node:timers/promises';
import { NicheError } from '../../errors.ts';
import type { GoogleCredentials, StorageCredentials } from '../credentials.ts';
import { explainGoogleError, GoogleAnswerError } from './errors.ts';
import { formatGoogleUrl, isGoogleItself, type GoogleLocation } from './url.ts';
import { assertKey } from '../keys.ts';
import { createRetrier, type RetryOptions } from '../../util/retry.ts';
import {
  createTransport,
  readAnswer,
  type HttpAnswer,
  type HttpRequest,
} from '../http/transport.ts';

export interface GoogleOptions {
  /** @default application default credentials; none for a server that is not Google's */
  readonly credentials?: StorageCredentials | undefined;
  /** Knows the endpoint and the credentials; else one is made on first use. */
  readonly client?: Storage | undefined;
  readonly retry?: RetryOptions | undefined;
  /** Between any two signs of life of a request, in milliseconds. @default 30,000 */
  readonly idleTimeoutMs?: number | undefined;
}

/** A request of the JSON API. */
export interface GoogleRequest extends Omit<HttpRequest, 'url' | 'headers' | 'signal'> {
  /** Below the endpoint, or a whole URL, as an upload's session has. */
  readonly at: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Answers beside 200 to 299 that are no error. */
  readonly also?: readonly number[];
}

interface RetriedRequest<T> {
  /** What is done, on what: `reading "nar/…" in gs://…`. */
  readonly action: string;
  readonly signal?: AbortSignal | undefined;
  readonly attempt: (send: (request: GoogleRequest) => Promise<HttpAnswer>) => Promise<T>;
}

/** One bucket, or a prefix of one, as the parts of the driver see it. */
export interface GoogleSession {
  readonly url: string;
  readonly location: GoogleLocation;
  /**
   * The object's whole name.
   *
   * @throws NicheError `invalid-key`
   */
  at(key: string): string;
  /** Sends requests no faster than the storage takes them, again where that may help. */
  run<T>(request: RetriedRequest<T>): Promise<T>;
  /** The project that the credentials are of, which a new bucket will belong to. */
  project(): Promise<string | undefined>;
}

interface GoogleApi {
  readonly endpoint: string;
  readonly project: () => Promise<string | undefined>;
  readonly authorize: (url: string) => Promise<Readonly<Record<string, string>>>;
}

const defaultIdleTimeoutMs = 30_000;
/** For credentials to be found and a token to be got, in milliseconds. */
const tokenTimeoutMs = 60_000;
/** What a token is asked for that a service account's key gets. */
const storageScope = 'https://www.googleapis.com/auth/devstorage.full_control';
/** Of an answer that is read whole: a listing of 1,000 objects has some 200 KiB. */
const maxAnswerBytes = 8 * 2 ** 20;

/** @throws NicheError `usage` for another storage's credentials */
export function createGoogleSession(
  location: GoogleLocation,
  options: GoogleOptions,
): GoogleSession {
  const serviceAccount = readCredentials(options.credentials);
  const retrier = createRetrier(options.retry);
  const send = createTransport(options.idleTimeoutMs ?? defaultIdleTimeoutMs);
  const url = formatGoogleUrl(location);
  let api: Promise<GoogleApi> | undefined;

  async function load(): Promise<GoogleApi> {
    const client = options.client ?? (await createClient(location, serviceAccount));
    const endpoint = location.endpoint ?? client.apiEndpoint.replace(/\/+$/, '');
    const isOpen =
      options.credentials?.kind === 'anonymous' ||
      // A token that was sent to somebody else's server would be theirs to use.
      (serviceAccount === undefined && !isGoogleItself(endpoint));
    return {
      endpoint,
      project: async () => (isOpen ? undefined : client.getProjectId()),
      authorize: async (target) =>
        isOpen ? {} : Object.fromEntries(await client.authClient.getRequestHeaders(target)),
    };
  }

  async function request(
    { at, query = {}, headers = {}, also = [], ...rest }: GoogleRequest,
    signal: AbortSignal | undefined,
  ): Promise<HttpAnswer> {
    const { endpoint, authorize } = await (api ??= load());
    const target = new URL(at, endpoint);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) target.searchParams.set(name, value);
    }
    const authorization = await inTime(authorize(target.href), signal);
    const answer = await send({
      ...rest,
      url: target.href,
      headers: { 'user-agent': 'niche', ...headers, ...authorization },
      signal,
    });
    const isExpected =
      (answer.status >= 200 && answer.status < 300) || also.includes(answer.status);
    if (isExpected) return answer;
    throw new GoogleAnswerError(answer, await readAnswer(answer.body, maxAnswerBytes));
  }

  return {
    url,
    location,
    at(key) {
      assertKey(key);
      return location.prefix + key;
    },
    project: () =>
      retrier.run({
        action: `looking for the project of ${url}`,
        attempt: async () => inTime((await (api ??= load())).project(), undefined),
        explain: (error) => explainGoogleError(error, `looking for the project of ${url}`),
      }),
    run({ action, signal, attempt }) {
      return retrier.run({
        action,
        signal,
        attempt: () => attempt((each) => request(each, signal)),
        explain: (error) => explainGoogleError(error, action),
      });
    },
  };
}

/** The answer's JSON. */
export async function readJson(answer: HttpAnswer): Promise<unknown> {
  return JSON.parse(await readAnswer(answer.body, maxAnswerBytes)) as unknown;
}

/** Lets the connection serve the next request. */
export async function discardBody({ body }: HttpAnswer): Promise<void> {
  await readAnswer(body, maxAnswerBytes);
}

async function createClient(
  { endpoint }: GoogleLocation,
  credentials: { readonly client_email: string; readonly private_key: string } | undefined,
): Promise<Storage> {
  const { JWT, Storage } = await import('./sdk.ts');
  return new Storage({
    ...(endpoint === undefined ? {} : { apiEndpoint: endpoint }),
    // As `credentials` it would make the SDK print a warning.
    ...(credentials === undefined
      ? {}
      : {
          authClient: new JWT({
            email: credentials.client_email,
            key: credentials.private_key,
            scopes: [storageScope],
          }),
        }),
  });
}

function readCredentials(
  credentials: StorageCredentials | undefined,
): { readonly client_email: string; readonly private_key: string } | undefined {
  if (credentials === undefined || credentials.kind === 'anonymous') return undefined;
  if (credentials.kind !== 'google') {
    throw refused(`expected Google credentials, got ${credentials.kind} ones`);
  }
  return parseServiceAccount(credentials);
}

/** Other kinds of documents may name addresses that tokens are got from: only the SDK's chain reads them. */
function parseServiceAccount({ serviceAccount }: GoogleCredentials): {
  readonly client_email: string;
  readonly private_key: string;
} {
  try {
    const { type, client_email, private_key } = JSON.parse(serviceAccount) as Record<
      string,
      unknown
    >;
    if (
      type === 'service_account' &&
      typeof client_email === 'string' &&
      typeof private_key === 'string'
    ) {
      return { client_email, private_key };
    }
  } catch {
    // What the parser says may quote the key.
  }
  throw refused(
    'expected a service account’s key, the JSON document with client_email and private_key',
  );
}

async function inTime<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  const done = new AbortController();
  const bounds = signal === undefined ? done.signal : AbortSignal.any([signal, done.signal]);
  const tooLate = sleep(tokenTimeoutMs, undefined, { signal: bounds, ref: false }).then(() => {
    throw new Error(`no credentials came within ${tokenTimeoutMs} ms`);
  });
  try {
    return await Promise.race([work, tooLate]);
  } finally {
    done.abort();
    tooLate.catch(() => undefined);
  }
}

function refused(why: string): NicheError {
  return new NicheError('usage', `opening a Google bucket: ${why}`);
}

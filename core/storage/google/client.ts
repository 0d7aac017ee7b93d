import { NicheError } from '../../errors.ts';
import {
  anonymousGoogleAuth,
  createGoogleAuth,
  type ServiceAccountKey,
} from '../../util/google-auth.ts';
import { createGoogleRest, type GoogleRequest } from '../../util/google-rest.ts';
import { parseJson } from '../../util/json.ts';
import { createRetrier, type RetryOptions } from '../../util/retry.ts';
import type { HttpResponse } from '../../util/transport.ts';
import type { GoogleCredentials, StorageCredentials } from '../credentials.ts';
import type { OperationRunner } from '../http/operation.ts';
import { assertKey } from '../keys.ts';
import { explainGoogleError } from './errors.ts';
import { endpointOf, formatGoogleUrl, isGoogleItself, type GoogleLocation } from './url.ts';

export interface GoogleOptions {
  /** @default application default credentials; none for an endpoint that is not Google's */
  readonly credentials?: StorageCredentials | undefined;
  readonly retry?: RetryOptions | undefined;
  /** The longest time without a byte in either direction, in milliseconds. @default 30,000 */
  readonly idleTimeoutMs?: number | undefined;
}

/** A request of the JSON API. */
export interface ApiRequest extends Omit<GoogleRequest, 'url' | 'signal'> {
  /** A path below the endpoint, or a whole URL, as an upload session has. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
}

/**
 * Sends one request.
 *
 * @throws GoogleResponseError for an unexpected status; errors of the connection and of the
 *   credentials as they are
 */
export type Send = (request: ApiRequest) => Promise<HttpResponse>;

/** One bucket, or a prefix of one. */
export interface GoogleBucketClient extends OperationRunner<Send> {
  readonly url: string;
  readonly location: GoogleLocation;
  /**
   * Returns the object's whole name.
   *
   * @throws NicheError `invalid-key`
   */
  objectName(key: string): string;
  /** Returns the project of the credentials, which a new bucket will belong to. */
  projectId(): Promise<string | undefined>;
}

const defaultIdleTimeoutMs = 30_000;
const scope = 'https://www.googleapis.com/auth/devstorage.full_control';

/** @throws NicheError `usage` for another storage's credentials */
export function createGoogleBucketClient(
  location: GoogleLocation,
  options: GoogleOptions,
): GoogleBucketClient {
  const serviceAccount = readServiceAccount(options.credentials);
  const endpoint = endpointOf(location);
  const isAnonymous =
    options.credentials?.kind === 'anonymous' ||
    // A server that is not Google's could use this machine's token elsewhere.
    (serviceAccount === undefined && !isGoogleItself(endpoint));
  const auth = isAnonymous ? anonymousGoogleAuth : createGoogleAuth({ scope, serviceAccount });
  const { idleTimeoutMs = defaultIdleTimeoutMs } = options;
  const rest = createGoogleRest({ auth, idleTimeoutMs });
  const retrier = createRetrier(options.retry);
  const url = formatGoogleUrl(location);

  function send({ path, query = {}, ...request }: ApiRequest, signal?: AbortSignal) {
    const target = new URL(path, endpoint);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) target.searchParams.set(name, value);
    }
    return rest.send({ ...request, url: target.href, signal });
  }

  return {
    url,
    location,
    objectName(key) {
      assertKey(key);
      return location.prefix + key;
    },
    projectId() {
      const action = `finding the project of ${url}`;
      return retrier.run({
        action,
        attempt: () => auth.projectId(),
        explain: (error) => explainGoogleError(error, action),
      });
    },
    run({ action, signal, attempt }) {
      return retrier.run({
        action,
        signal,
        attempt: () => attempt((request) => send(request, signal)),
        explain: (error) => explainGoogleError(error, action),
      });
    },
  };
}

function readServiceAccount(
  credentials: StorageCredentials | undefined,
): ServiceAccountKey | undefined {
  if (credentials === undefined || credentials.kind === 'anonymous') return undefined;
  if (credentials.kind !== 'google') {
    throw refused(`expected Google credentials, got ${credentials.kind} credentials`);
  }
  return parseServiceAccount(credentials);
}

/**
 * Reads a service account's key. Other kinds of credential documents may specify addresses to fetch
 * tokens from; those are read only from where google-auth-library finds them.
 */
function parseServiceAccount({ serviceAccount }: GoogleCredentials): ServiceAccountKey {
  try {
    const { type, client_email, private_key } = parseJson(serviceAccount) as Record<
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
    // The parser's message may quote the key.
  }
  throw refused(
    'expected a service account key, a JSON document with client_email and private_key',
  );
}

function refused(why: string): NicheError {
  return new NicheError('usage', `opening a Google bucket: ${why}`);
}

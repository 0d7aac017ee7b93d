import http from 'node:http';
import https from 'node:https';
import type { fromTemporaryCredentials } from '@aws-sdk/credential-providers';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { NicheError } from '../../errors.ts';
import type { StorageCredentials } from '../credentials.ts';
import { assertKey } from '../keys.ts';
import { createRetrier, type RetryOptions } from '../../util/retry.ts';
import { openDirect, type PutDirectly } from './fast-put.ts';
import { explainS3Error } from './errors.ts';
import { addHeaders } from './middleware.ts';
import { conditionals, s3Providers, type S3Provider } from './providers.ts';
import type * as Sdk from './sdk.ts';
import { Sha256 } from './sha256.ts';
import { formatS3Url, s3Endpoint, s3Region, type S3Location } from './url.ts';

export interface S3Options {
  /** @default what the SDK's own chain finds */
  readonly credentials?: StorageCredentials | undefined;
  /** Else one is made on first use; its own retries should be off. */
  readonly client?: S3Client | undefined;
  readonly retry?: RetryOptions | undefined;
  /** For a connection to be made, in milliseconds. @default 10,000 */
  readonly connectTimeoutMs?: number | undefined;
  /** Between any two signs of life of a request, in milliseconds. @default 30,000 */
  readonly idleTimeoutMs?: number | undefined;
}

/** The SDK with a client of it. */
interface S3Api {
  readonly sdk: typeof Sdk;
  readonly client: S3Client;
  /** Sends small objects at less cost; null where only the SDK knows how. */
  readonly putDirectly: () => Promise<PutDirectly | null>;
}

interface S3Attempt extends S3Api {
  /** Goes with each command, so that it ends with the caller's signal. */
  readonly until: { readonly abortSignal: AbortSignal } | undefined;
}

interface S3Request<T> {
  /** What is done, on what: `reading "nar/…" in s3://…`. */
  readonly action: string;
  readonly signal?: AbortSignal | undefined;
  readonly attempt: (api: S3Attempt) => Promise<T>;
}

/** One bucket, or a prefix of one, as the parts of the driver see it. */
export interface S3Session {
  readonly url: string;
  readonly location: S3Location;
  readonly bucket: string;
  /** The preset, with what the URL says about it. */
  readonly provider: S3Provider;
  /**
   * The object's whole key.
   *
   * @throws NicheError `invalid-key`
   */
  at(key: string): string;
  /** Sends requests no faster than the storage takes them, again where that may help. */
  run<T>(request: S3Request<T>): Promise<T>;
}

/**
 * One set of connections for all buckets: those of a cache are mostly on one host, and each connection
 * takes some round trips to make.
 */
const httpAgent = new http.Agent({ keepAlive: true });
const httpsAgent = new https.Agent({ keepAlive: true });

const defaultConnectTimeoutMs = 10_000;
const defaultIdleTimeoutMs = 30_000;

/** @throws NicheError `usage` for another kind of storage's credentials */
export function createS3Session(location: S3Location, options: S3Options): S3Session {
  const kind = options.credentials?.kind;
  if (kind !== undefined && kind !== 's3' && kind !== 's3-role' && kind !== 'anonymous') {
    throw new NicheError(
      'usage',
      `opening an S3 bucket: expected S3 credentials, got ${kind} ones`,
    );
  }
  const preset = s3Providers[location.provider];
  const provider =
    location.conditional === undefined
      ? preset
      : { ...preset, capabilities: conditionals[location.conditional] };
  const retrier = createRetrier(options.retry);
  let api: Promise<S3Api> | undefined;

  async function load(): Promise<S3Api> {
    const sdk = await import('./sdk.ts');
    const client = options.client ?? new sdk.S3Client(clientConfig(location, options));
    addHeaders(client, { demandsMd5: !provider.checksums });
    let direct: Promise<PutDirectly | null> | undefined;
    return {
      sdk,
      client,
      putDirectly() {
        direct ??= openDirect(sdk, client, location.bucket);
        // What failed, as where no region is named, fails anew for the next who asks.
        direct.catch(() => (direct = undefined));
        return direct;
      },
    };
  }

  return {
    url: formatS3Url(location),
    location,
    bucket: location.bucket,
    provider,
    at(key) {
      assertKey(key);
      return location.prefix + key;
    },
    run({ action, signal, attempt }) {
      const until = signal && { abortSignal: signal };
      return retrier.run({
        action,
        signal,
        attempt: async () => attempt({ ...(await (api ??= load())), until }),
        explain: (error) => explainS3Error(error, action, location),
      });
    },
  };
}

function clientConfig(location: S3Location, options: S3Options): S3ClientConfig {
  const region = s3Region(location);
  const endpoint = s3Endpoint(location);
  return {
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    // Which of two sources it takes the URL says, so that the SDK need not warn in nine lines.
    ...(location.profile === undefined ? {} : { profile: location.profile, logger: silent }),
    ...identity(options.credentials, region),
    cacheMiddleware: true,
    sha256: Sha256,
    // Retries are ours: they cut the concurrency too.
    maxAttempts: 1,
    retryMode: 'standard',
    // Checksums that nobody asked for break servers that do not know them.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // It would cost a round trip for each large body.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: options.connectTimeoutMs ?? defaultConnectTimeoutMs,
      socketTimeout: options.idleTimeoutMs ?? defaultIdleTimeoutMs,
      httpAgent,
      httpsAgent,
    },
  };
}

const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

function identity(
  credentials: StorageCredentials | undefined,
  region: string | undefined,
): Partial<S3ClientConfig> {
  if (credentials?.kind === 's3') {
    const { accessKeyId, secretAccessKey, sessionToken } = credentials;
    return {
      credentials: {
        accessKeyId,
        secretAccessKey,
        ...(sessionToken === undefined ? {} : { sessionToken }),
      },
    };
  }
  if (credentials?.kind === 's3-role') return { credentials: assumeRole(credentials.role, region) };
  if (credentials?.kind === 'anonymous') {
    return {
      credentials: { accessKeyId: '', secretAccessKey: '' },
      signer: { sign: (request) => Promise.resolve(request) },
    };
  }
  return {};
}

/** The SDK asks again whenever a session is about to end. */
function assumeRole(
  role: string,
  region: string | undefined,
): ReturnType<typeof fromTemporaryCredentials> {
  let provider: Promise<ReturnType<typeof fromTemporaryCredentials>> | undefined;
  return async () => {
    provider ??= import('@aws-sdk/credential-providers').then((sdk) =>
      sdk.fromTemporaryCredentials({
        params: { RoleArn: role, RoleSessionName: 'niche' },
        ...(region === undefined ? {} : { clientConfig: { region } }),
      }),
    );
    return (await provider)();
  };
}

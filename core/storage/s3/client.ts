import http from 'node:http';
import https from 'node:https';
import type { Readable } from 'node:stream';
import type { fromTemporaryCredentials } from '@aws-sdk/credential-providers';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import type { HttpHandler } from '@smithy/core/protocols';
import { NicheError } from '../../errors.ts';
import type { StorageCredentials } from '../credentials.ts';
import type { OperationRunner } from '../http/operation.ts';
import { assertKey } from '../keys.ts';
import { createRetrier, type RetryOptions } from '../../util/retry.ts';
import { createTransport, readBytes } from '../../util/transport.ts';
import { openFastPut, type FastPut } from './fast-put.ts';
import { explainS3Error } from './errors.ts';
import { credentialsBehindProxy, transportHandler } from '../../util/aws-handler.ts';
import { addHeaders } from './middleware.ts';
import { conditionals, s3Providers, type S3Provider } from './providers.ts';
import type * as Sdk from './sdk.ts';
import { Sha256 } from './sha256.ts';
import { formatS3Url, s3Endpoint, s3Region, type S3Location } from './url.ts';

export interface S3Options {
  /** @default the SDK's own chain of sources */
  readonly credentials?: StorageCredentials | undefined;
  /** The SDK's client; its own retries should be off. @default created on first use */
  readonly client?: S3Client | undefined;
  readonly retry?: RetryOptions | undefined;
  /** The longest time to make a connection, in milliseconds. @default 10,000 */
  readonly connectTimeoutMs?: number | undefined;
  /** The longest time without a byte in either direction, in milliseconds. @default 30,000 */
  readonly idleTimeoutMs?: number | undefined;
}

interface S3Api {
  readonly sdk: typeof Sdk;
  /** The SDK's client. */
  readonly s3: S3Client;
  /** Returns a cheaper way to send small objects; null for a bucket that needs the SDK's command. */
  readonly fastPut: () => Promise<FastPut | null>;
}

interface S3Attempt extends S3Api {
  /** Options of each command: they end it when the caller aborts. */
  readonly sendOptions: { readonly abortSignal: AbortSignal } | undefined;
}

/** One bucket, or a prefix of one. */
export interface S3BucketClient extends OperationRunner<S3Attempt> {
  readonly url: string;
  readonly location: S3Location;
  readonly bucket: string;
  /** The provider's preset, with what the URL overrides. */
  readonly provider: S3Provider;
  /**
   * Returns the object's whole key.
   *
   * @throws NicheError `invalid-key`
   */
  fullKey(key: string): string;
}

/**
 * One set of connections for all buckets: the buckets of a cache are mostly on one host, and each
 * connection takes several round trips to make.
 */
const httpAgent = new http.Agent({ keepAlive: true });
const httpsAgent = new https.Agent({ keepAlive: true });

/** Of a response that is read whole: a listing of 1,000 objects takes some 1 MiB. */
const maxResponseBytes = 32 * 2 ** 20;
/**
 * The longest time in which a server may send nothing while it completes an upload, and in which a
 * response that is read whole has to arrive, in milliseconds. S3 takes minutes to complete a large
 * object, and sends spaces meanwhile; other servers are silent while they copy all parts.
 *
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
 */
export const completionMs = 5 * 60_000;
const defaultConnectTimeoutMs = 10_000;
const defaultIdleTimeoutMs = 30_000;

/** @throws NicheError `usage` for another kind of storage's credentials */
export function createS3BucketClient(location: S3Location, options: S3Options): S3BucketClient {
  const kind = options.credentials?.kind;
  if (kind !== undefined && kind !== 's3' && kind !== 's3-role' && kind !== 'anonymous') {
    throw new NicheError(
      'usage',
      `opening an S3 bucket: expected S3 credentials, got ${kind} credentials`,
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
    const s3 = options.client ?? new sdk.S3Client(clientConfig(sdk, location, options));
    addHeaders(s3, { needsMd5: !provider.checksums });
    let fastPut: Promise<FastPut | null> | undefined;
    return {
      sdk,
      s3,
      fastPut() {
        fastPut ??= openFastPut(sdk, s3, location.bucket);
        // A failure, such as a missing region, is not cached: the next write tries again.
        fastPut.catch(() => (fastPut = undefined));
        return fastPut;
      },
    };
  }

  return {
    url: formatS3Url(location),
    location,
    bucket: location.bucket,
    provider,
    fullKey(key) {
      assertKey(key);
      return location.prefix + key;
    },
    run({ action, signal, attempt }) {
      const sendOptions = signal && { abortSignal: signal };
      return retrier.run({
        action,
        signal,
        attempt: async () => attempt({ ...(await (api ??= load())), sendOptions }),
        explain: (error) => explainS3Error(error, action, location),
      });
    },
  };
}

function clientConfig(sdk: typeof Sdk, location: S3Location, options: S3Options): S3ClientConfig {
  const { idleTimeoutMs = defaultIdleTimeoutMs, connectTimeoutMs = defaultConnectTimeoutMs } =
    options;
  const region = s3Region(location);
  const endpoint = s3Endpoint(location);
  const send = createTransport(idleTimeoutMs, { connectTimeoutMs });
  const requestHandler = transportHandler(sdk, send, { http: httpAgent, https: httpsAgent });
  return {
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    // The URL chooses between two sources of credentials, which the SDK would warn of in nine lines.
    ...(location.profile === undefined ? {} : { profile: location.profile, logger: silent }),
    ...identity(options.credentials, requestHandler, location),
    cacheMiddleware: true,
    sha256: Sha256,
    // niche retries by itself, and lowers its concurrency too.
    maxAttempts: 1,
    retryMode: 'standard',
    // Optional checksums break servers that do not know them.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // It would cost a round trip for each large body.
    expectContinueHeader: false,
    requestHandler,
    streamCollector: (body: Readable) => readBytes(body, maxResponseBytes, completionMs),
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
  requestHandler: HttpHandler,
  location: S3Location,
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
  if (credentials?.kind === 's3-role') {
    const region = s3Region(location);
    return { credentials: assumeRole(credentials.role, region, requestHandler) };
  }
  if (credentials?.kind === 'anonymous') {
    return {
      credentials: { accessKeyId: '', secretAccessKey: '' },
      signer: { sign: (request) => Promise.resolve(request) },
    };
  }
  return credentialsBehindProxy(requestHandler, location.profile);
}

/** Returns a provider of the role's credentials. The SDK calls it when a session is about to end. */
function assumeRole(
  role: string,
  region: string | undefined,
  requestHandler: HttpHandler,
): ReturnType<typeof fromTemporaryCredentials> {
  let provider: Promise<ReturnType<typeof fromTemporaryCredentials>> | undefined;
  return async () => {
    provider ??= import('@aws-sdk/credential-providers').then((sdk) =>
      sdk.fromTemporaryCredentials({
        params: { RoleArn: role, RoleSessionName: 'niche' },
        clientConfig: {
          ...(region === undefined ? {} : { region }),
          requestHandler,
        },
      }),
    );
    return (await provider)();
  };
}

import type {
  AnonymousCredential,
  ContainerClient,
  IHttpClient,
  Pipeline,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import type { TokenCredential } from '@azure/identity';
import { NicheError } from '../../errors.ts';
import { azureAccess, type AzureAccess } from './credentials.ts';
import { explainAzureError } from './errors.ts';
import type * as Sdk from './sdk.ts';
import { accountUrl, formatAzureUrl, type AzureLocation } from './url.ts';
import type { StorageCredentials } from '../credentials.ts';
import type { OperationRunner } from '../http/operation.ts';
import { assertKey } from '../keys.ts';
import { createRetrier, type RetryOptions } from '../../util/retry.ts';
import { openAzureIdentity } from '../../util/azure-identity.ts';
import { createTransport, readText } from '../../util/transport.ts';

export interface AzureOptions {
  /** @default Azure's own chain: environment, workload, managed identity, az login */
  readonly credentials?: StorageCredentials | undefined;
  /** The SDK's client; its own retries should be off. @default created on first use */
  readonly client?: ContainerClient | undefined;
  readonly retry?: RetryOptions | undefined;
  /** The longest time without a byte in either direction, in milliseconds. @default 30,000 */
  readonly idleTimeoutMs?: number | undefined;
}

type BlobCredential = AnonymousCredential | StorageSharedKeyCredential | TokenCredential;

interface AzureApi {
  readonly container: ContainerClient;
}

/** One container, or a prefix of one. */
export interface AzureBucketClient extends OperationRunner<AzureApi> {
  readonly url: string;
  readonly location: AzureLocation;
  /** Whether blobs may be written in blocks; with a SAS token that only creates, they may not. */
  readonly blocks: 'allowed' | 'denied' | 'unknown';
  /**
   * Returns the blob's whole name.
   *
   * @throws NicheError `invalid-key`
   */
  blobName(key: string): string;
}

const defaultIdleTimeoutMs = 30_000;
/** Of a response that is read whole: a listing of 5,000 blobs takes some 3 MiB. */
const maxResponseBytes = 32 * 2 ** 20;

/** @throws NicheError `usage` for another storage's credentials */
export function createAzureBucketClient(
  location: AzureLocation,
  options: AzureOptions,
): AzureBucketClient {
  const access = azureAccess(location, options.credentials);
  const retrier = createRetrier(options.retry);
  const url = formatAzureUrl(location);
  let api: Promise<AzureApi> | undefined;

  async function load(): Promise<AzureApi> {
    const sdk = await import('./sdk.ts');
    if (options.client !== undefined) return { container: options.client };
    const credential = await credentialOf(sdk, location, access);
    const pipeline = boundedPipeline(sdk, credential, options.idleTimeoutMs);
    const query = access.kind === 'sas' ? `?${access.sas}` : '';
    const service = new sdk.BlobServiceClient(`${accountUrl(location)}${query}`, pipeline);
    return { container: service.getContainerClient(location.container) };
  }

  return {
    url,
    location,
    blocks: access.kind === 'sas' ? blocksWith(access.sas) : 'allowed',
    blobName(key) {
      assertKey(key);
      return location.prefix + key;
    },
    run({ action, signal, attempt }) {
      return retrier.run({
        action,
        signal,
        attempt: async () => attempt(await (api ??= load())),
        explain: (error) =>
          explainAzureError(error, action, access.kind === 'anonymous' ? location : null),
      });
    },
  };
}

async function credentialOf(
  sdk: typeof Sdk,
  { account }: AzureLocation,
  access: AzureAccess,
): Promise<BlobCredential> {
  switch (access.kind) {
    case 'key':
      return new sdk.StorageSharedKeyCredential(account, access.key);
    case 'sas':
    case 'anonymous':
      return new sdk.AnonymousCredential();
    case 'identity': {
      return openAzureIdentity();
    }
  }
}

function boundedPipeline(
  sdk: typeof Sdk,
  credential: BlobCredential,
  idleTimeoutMs = defaultIdleTimeoutMs,
): Pipeline {
  return sdk.newPipeline(credential, {
    // niche retries by itself, and lowers its concurrency too.
    retryOptions: { maxTries: 1 },
    userAgentOptions: { userAgentPrefix: 'niche' },
    httpClient: httpClient(sdk, idleTimeoutMs),
  });
}

/** Adapts our transport: the SDK's own has no time limit for a body's chunks or an upload. */
function httpClient(sdk: typeof Sdk, idleTimeoutMs: number): IHttpClient {
  const send = createTransport(idleTimeoutMs);
  type Request = Parameters<IHttpClient['sendRequest']>[0];
  return {
    async sendRequest(request: Request) {
      const signal = request.abortSignal as AbortSignal | undefined;
      const response = await send({
        method: request.method,
        url: request.url,
        headers: request.headers.toJson(),
        body: bodyOf(request.body),
        signal,
      }).catch((error: unknown) => {
        const { code, message } = error as NodeJS.ErrnoException;
        // The SDK's policies only handle errors of its own class.
        throw signal?.aborted === true
          ? error
          : Object.assign(new sdk.RestError(message, { code: code ?? 'REQUEST_SEND_ERROR' }), {
              cause: error,
            });
      });
      const isStream = request.streamResponseStatusCodes?.has(response.status) === true;
      const headers = { toJson: () => response.headers } as unknown as Request['headers'];
      return {
        request,
        status: response.status,
        headers,
        ...(isStream
          ? { readableStreamBody: response.body }
          : { bodyAsText: await readText(response.body, maxResponseBytes) }),
      };
    },
  };
}

/** Returns whether a SAS token allows blocks. Those of a stored access policy do not state it. */
function blocksWith(sas: string): AzureBucketClient['blocks'] {
  const permissions = new URLSearchParams(sas).get('sp');
  if (permissions === null) return 'unknown';
  return permissions.includes('w') ? 'allowed' : 'denied';
}

function bodyOf(body: unknown): Uint8Array | string | AsyncIterable<Uint8Array> | undefined {
  if (body === undefined || body === null) return undefined;
  if (typeof body === 'string' || body instanceof Uint8Array) return body;
  if (typeof body === 'function') return bodyOf((body as () => unknown)());
  if (typeof body === 'object' && Symbol.asyncIterator in body) {
    return body as AsyncIterable<Uint8Array>;
  }
  throw new NicheError('internal', `sending a request to Azure: unexpected body`);
}

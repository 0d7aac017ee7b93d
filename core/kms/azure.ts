import type { TokenCredential } from '@azure/identity';
import * as z from 'zod';

import { isNicheError, messageOf } from '../errors.ts';
import type { NicheError } from '../errors.ts';
import { openAzureIdentity } from '../util/azure-identity.ts';
import { parseJson } from '../util/json.ts';
import { createRetrier, retryAfterMs } from '../util/retry.ts';
import type { Failure, Retrier } from '../util/retry.ts';
import { createTransport, readJson, readText } from '../util/transport.ts';
import type { HttpResponse } from '../util/transport.ts';
import { defaultIdleTimeoutMs, KmsError, readResponse } from './kms.ts';
import type { KmsErrorReason } from './kms.ts';

/** A version of an RSA key in a vault. */
export interface AzureKey {
  /** `https://acme.vault.azure.net` */
  readonly vaultUrl: string;
  readonly name: string;
  readonly version: string;
}

/** Azure Key Vault, with RSA-OAEP-256 as SOPS uses it. Every method throws {@link KmsError}. */
export interface AzureKeyVault {
  encrypt(key: AzureKey, plaintext: Uint8Array): Promise<Uint8Array>;
  decrypt(key: AzureKey, ciphertext: Uint8Array): Promise<Uint8Array>;
  /** Returns the newest version of a key. */
  newestVersion(vaultUrl: string, name: string): Promise<string>;
}

export interface AzureKeyVaultOptions {
  /** @default Azure's own chain, DefaultAzureCredential */
  readonly credential?: TokenCredential | undefined;
  /**
   * The only vault that is sent a token, as `https://acme.vault.azure.net`; null refuses every vault.
   * A document in a bucket specifies its vault, and a token sent to a foreign server is stolen.
   *
   * @default the vaults in the domains of Azure's clouds
   */
  readonly vault?: string | null | undefined;
  /** @default one for this client only: Azure throttles by vault */
  readonly retrier?: Retrier | undefined;
  /** The longest time without a byte in either direction, in milliseconds. @default 10,000 */
  readonly idleTimeoutMs?: number | undefined;
}

const apiVersion = '7.4';
const algorithm = 'RSA-OAEP-256';
/** More than any response of Key Vault. */
const maxResponseBytes = 64 * 1024;

/** Of encrypt and decrypt. */
const transformed = z.object({ value: z.base64url().min(1) });
/** Of get-key. `kid` is `<vault>/keys/<name>/<version>`. */
const keyBundle = z.object({
  key: z.object({ kid: z.string().regex(/\/keys\/[^/]+\/[A-Za-z0-9]+$/) }),
});

/**
 * Opens Azure Key Vault over its REST API. The SDK would be a dependency for three requests.
 *
 * @see https://learn.microsoft.com/rest/api/keyvault/keys
 */
export function openAzureKeyVault(options: AzureKeyVaultOptions = {}): AzureKeyVault {
  const { idleTimeoutMs = defaultIdleTimeoutMs } = options;
  const retrier = options.retrier ?? createRetrier({ maxConcurrency: 16 });
  const transport = createTransport(idleTimeoutMs);
  let credential: Promise<TokenCredential> | undefined;

  async function openCredential(): Promise<TokenCredential> {
    if (options.credential) return options.credential;
    return openAzureIdentity();
  }

  async function token(vaultUrl: string, tenantId: string | undefined): Promise<string> {
    const scope = `${audienceOf(vaultUrl, options.vault)}/.default`;
    const source = await (credential ??= openCredential());
    const result = await source
      .getToken(scope, tenantId === undefined ? {} : { tenantId })
      .catch((error: unknown) => {
        throw isNicheError(error) ? fromNicheError(error) : error;
      });
    if (result === null) throw new KmsError('no-credentials', 'no token for Azure Key Vault');
    return result.token;
  }

  async function send(
    vaultUrl: string,
    path: string,
    body: object | undefined,
    tenantId?: string,
  ): Promise<unknown> {
    const content = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const response = await transport({
      method: content === undefined ? 'GET' : 'POST',
      url: `${vaultUrl}/keys/${path}?api-version=${apiVersion}`,
      headers: {
        authorization: `Bearer ${await token(vaultUrl, tenantId)}`,
        ...(content === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': String(content.length) }),
      },
      body: content,
    });
    if (response.status === 200) return readJson(response.body, maxResponseBytes);
    const text = await readText(response.body, maxResponseBytes);
    const tenant =
      response.status === 401 ? tenantOf(response.headers['www-authenticate']) : undefined;
    // The vault may belong to another tenant than the one that the credentials default to.
    if (tenant !== undefined && tenantId === undefined) return send(vaultUrl, path, body, tenant);
    throw new ResponseError(response, text);
  }

  function request<T>(
    action: string,
    { vaultUrl, path, body }: { vaultUrl: string; path: string; body?: object },
    schema: z.ZodType<T>,
  ): Promise<T> {
    const attempt = async (): Promise<T> => readResponse(schema, await send(vaultUrl, path, body));
    return retrier.run({ action, attempt, explain });
  }

  async function transform(
    action: 'encrypt' | 'decrypt',
    { vaultUrl, name, version }: AzureKey,
    bytes: Uint8Array,
  ): Promise<Uint8Array> {
    const path = [name, version, action].map(encodeURIComponent).join('/');
    const body = { alg: algorithm, value: Buffer.from(bytes).toString('base64url') };
    const { value } = await request(`${action}ing`, { vaultUrl, path, body }, transformed);
    return Buffer.from(value, 'base64url');
  }

  return {
    encrypt: (key, plaintext) => transform('encrypt', key, plaintext),
    decrypt: (key, ciphertext) => transform('decrypt', key, ciphertext),
    async newestVersion(vaultUrl, name) {
      const path = encodeURIComponent(name);
      const { key } = await request('reading a key', { vaultUrl, path }, keyBundle);
      return key.kid.slice(key.kid.lastIndexOf('/') + 1);
    },
  };
}

/** An unexpected response of Key Vault. */
class ResponseError extends Error {
  readonly status: number;
  readonly retryAfter: string | undefined;

  constructor({ status, headers }: HttpResponse, body: string) {
    super(`${status} ${describeError(body)}`.trim());
    this.status = status;
    this.retryAfter = headers['retry-after'];
  }
}

function describeError(body: string): string {
  try {
    const { error } = parseJson(body) as { error?: { code?: string; message?: string } };
    return [error?.code, error?.message].filter(Boolean).join(': ');
  } catch {
    // A proxy may respond with a page.
    return '';
  }
}

/** The token audience of the public cloud. */
const publicCloud = 'https://vault.azure.net';

/**
 * A vault in one of Azure's clouds.
 *
 * @see https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#dns-suffixes-for-base-url
 */
const azureVault =
  /^https:\/\/[A-Za-z0-9-]+\.((?:vault|managedhsm)\.(?:azure\.net|azure\.cn|usgovcloudapi\.net))(?::\d+)?$/;

/**
 * Returns the token audience: the vault's domain, as `https://vault.azure.net`.
 *
 * @param only the only vault that is allowed; null allows none
 * @throws KmsError `denied`
 */
function audienceOf(vaultUrl: string, only: string | null | undefined): string {
  if (only !== undefined && only !== vaultUrl) {
    throw new KmsError(
      'denied',
      `expected the vault of this deployment, ${only ?? 'which has none'}`,
      {
        hint: 'set NICHE_VAULT, or encrypt the document for the vault of the deployment',
      },
    );
  }
  const [, domain] = azureVault.exec(vaultUrl) ?? [];
  if (domain !== undefined) return `https://${domain}`;
  if (only !== undefined) return publicCloud;
  throw new KmsError('denied', 'expected a vault of Azure, https://….vault.azure.net', {
    hint: 'use a key of a vault in a domain of Azure',
  });
}

/**
 * Returns the tenant that a challenge names: `Bearer authorization="https://login…/<tenant>"`.
 *
 * @see https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
 */
function tenantOf(challenge: string | undefined): string | undefined {
  return /\bauthorization(?:_uri)?="https:\/\/[^/"]+\/([0-9a-f-]{36})/i.exec(challenge ?? '')?.[1];
}

/** Judges an error by its HTTP status, or by its name where @azure/identity threw it. */
function explain(error: unknown): Failure {
  const { status = 0, retryAfter } = error instanceof ResponseError ? error : {};
  const failure = (kind: Failure['kind'], reason: KmsErrorReason): Failure => ({
    kind,
    retryAfterMs: retryAfterMs(retryAfter),
    error: new KmsError(reason, messageOf(error), { cause: error }),
  });
  if (error instanceof KmsError) {
    return { kind: error.reason === 'unavailable' ? 'transient' : 'final', error };
  }
  if (lacksCredentials(error)) return failure('final', 'no-credentials');
  if (error instanceof Error && /^(?:Aggregate)?Authentication/.test(error.name)) {
    return failure('final', 'denied');
  }
  if (status === 429) return failure('throttled', 'unavailable');
  if (status === 401 || status === 403) return failure('final', 'denied');
  if (status >= 400 && status < 500 && status !== 408) return failure('final', 'wrong-key');
  return failure('transient', 'unavailable');
}

/** Converts an error of the functions' managed identity, which replaces @azure/identity there. */
function fromNicheError(error: NicheError): KmsError {
  const reason = error.code === 'storage-unavailable' ? 'unavailable' : 'denied';
  return new KmsError(reason, error.message, { cause: error });
}

function lacksCredentials(error: unknown): boolean {
  return (
    error instanceof Error &&
    (error.name === 'CredentialUnavailableError' ||
      (error.name === 'AggregateAuthenticationError' &&
        /unavailable|failed to retrieve/i.test(error.message)))
  );
}

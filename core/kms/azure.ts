import type { TokenCredential } from '@azure/identity';

import { isNicheError, messageOf } from '../errors.ts';
import type { NicheError } from '../errors.ts';
import { createRetrier } from '../util/retry.ts';
import type { Failure, Retrier } from '../util/retry.ts';
import { createTransport, readText } from '../util/transport.ts';
import { KmsError } from './kms.ts';
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
  /** @default one for this client only: Azure throttles by vault */
  readonly retrier?: Retrier | undefined;
}

const apiVersion = '7.4';
const algorithm = 'RSA-OAEP-256';
/** Without a byte in either direction, in milliseconds. */
const idleTimeoutMs = 10_000;
/** More than any response of Key Vault. */
const maxResponseBytes = 64 * 1024;
/** The token audience of the public cloud. */
const publicCloud = 'https://vault.azure.net';

/**
 * Opens Azure Key Vault over its REST API. The SDK would be a dependency for three requests.
 *
 * @see https://learn.microsoft.com/rest/api/keyvault/keys
 */
export function openAzureKeyVault(options: AzureKeyVaultOptions = {}): AzureKeyVault {
  const retrier = options.retrier ?? createRetrier({ maxConcurrency: 16 });
  const transport = createTransport(idleTimeoutMs);
  let credential: Promise<TokenCredential> | undefined;

  async function openCredential(): Promise<TokenCredential> {
    if (options.credential) return options.credential;
    const { DefaultAzureCredential } = await import('@azure/identity');
    return new DefaultAzureCredential();
  }

  async function token(vaultUrl: string, tenantId: string | undefined): Promise<string> {
    const source = await (credential ??= openCredential());
    const scope = `${audienceOf(vaultUrl)}/.default`;
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
  ): Promise<KeyVaultResponse> {
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
    const { status } = response;
    const text = await readText(response.body, maxResponseBytes);
    if (status === 200) return JSON.parse(text) as KeyVaultResponse;
    const tenant = status === 401 ? tenantOf(response.headers['www-authenticate']) : undefined;
    // The vault may belong to another tenant than the one that the credentials default to.
    if (tenant !== undefined && tenantId === undefined) return send(vaultUrl, path, body, tenant);
    throw new ResponseError(status, text);
  }

  function request(
    action: string,
    vaultUrl: string,
    path: string,
    body?: object,
  ): Promise<KeyVaultResponse> {
    return retrier.run({ action, attempt: () => send(vaultUrl, path, body), explain });
  }

  async function transform(
    action: 'encrypt' | 'decrypt',
    { vaultUrl, name, version }: AzureKey,
    bytes: Uint8Array,
  ): Promise<Uint8Array> {
    const path = [name, version, action].map(encodeURIComponent).join('/');
    const body = { alg: algorithm, value: Buffer.from(bytes).toString('base64url') };
    const { value } = await request(`${action}ing`, vaultUrl, path, body);
    if (typeof value !== 'string') throw new KmsError('unavailable', 'the response has no value');
    return Buffer.from(value, 'base64url');
  }

  return {
    encrypt: (key, plaintext) => transform('encrypt', key, plaintext),
    decrypt: (key, ciphertext) => transform('decrypt', key, ciphertext),
    async newestVersion(vaultUrl, name) {
      const { key } = await request('reading a key', vaultUrl, encodeURIComponent(name));
      const [, version] = /\/keys\/[^/]+\/([A-Za-z0-9]+)$/.exec(key?.kid ?? '') ?? [];
      if (version === undefined) throw new KmsError('unavailable', 'the key has no version');
      return version;
    },
  };
}

interface KeyVaultResponse {
  /** Base64url, of encrypt and decrypt. */
  readonly value?: unknown;
  /** Of get-key: `kid` is `<vault>/keys/<name>/<version>`. */
  readonly key?: { readonly kid?: string };
}

/** An unexpected response of Key Vault. */
class ResponseError extends Error {
  readonly status: number;

  constructor(status: number, body: string) {
    super(`${status} ${describeError(body)}`.trim());
    this.status = status;
  }
}

function describeError(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: { code?: string; message?: string } };
    return [error?.code, error?.message].filter(Boolean).join(': ');
  } catch {
    // A proxy may respond with a page.
    return '';
  }
}

/** Returns the token audience: `https://vault.azure.net`, or that of another Azure cloud. */
function audienceOf(vaultUrl: string): string {
  const [, suffix] = /^https:\/\/[^.]+\.((?:vault|managedhsm)\.[a-z.]+)$/.exec(vaultUrl) ?? [];
  return suffix === undefined ? publicCloud : `https://${suffix}`;
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
  const failure = (kind: Failure['kind'], reason: KmsErrorReason): Failure => ({
    kind,
    error: new KmsError(reason, messageOf(error), { cause: error }),
  });
  if (error instanceof KmsError) {
    return { kind: error.reason === 'unavailable' ? 'transient' : 'final', error };
  }
  if (lacksCredentials(error)) return failure('final', 'no-credentials');
  if (error instanceof Error && /^(?:Aggregate)?Authentication/.test(error.name)) {
    return failure('final', 'denied');
  }
  const status = error instanceof ResponseError ? error.status : 0;
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

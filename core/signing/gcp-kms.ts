import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import { NicheError, messageOf } from '../errors.ts';
import { formatPublicKey, formatSignature, parsePublicKey } from '../nix/keys.ts';
import { createRetrier } from '../util/retry.ts';
import type { Failure, Retrier } from '../util/retry.ts';
import { crc32c } from '../util/crc32c.ts';
import type { Signer } from './signer.ts';

/** The most that Cloud KMS signs as it is, in bytes. */
export const gcpKmsMaxBytes = 64 * 1024;

const algorithm = 'EC_SIGN_ED25519';

export interface GcpKms {
  /**
   * A signer whose key never leaves Cloud KMS.
   *
   * @param keyVersion `projects/…/locations/…/keyRings/…/cryptoKeys/…/cryptoKeyVersions/…`
   * @param publicKey `<key name>:<base64>`, as {@link publicKey} gave it
   */
  signer(keyVersion: string, publicKey: string): Signer;
  /**
   * The public half of a key version, under the name that it is to have in signatures.
   *
   * @throws NicheError `wrong-key` for a key that makes no Ed25519 signatures
   */
  publicKey(keyVersion: string, keyName: string): Promise<string>;
}

export interface GcpKmsOptions {
  /** Sends authorized requests; else one is made of the ambient credentials on first use. */
  readonly client?: RequestClient | undefined;
  /** @default https://cloudkms.googleapis.com */
  readonly endpoint?: string | undefined;
  /** How requests are repeated; of one's own, since KMS throttles by project. */
  readonly pace?: Retrier | undefined;
}

/** As much of google-auth-library's `AuthClient` as is used. */
export interface RequestClient {
  request(options: {
    readonly url: string;
    readonly method: 'GET' | 'POST';
    readonly data?: object;
    readonly timeout: number;
    readonly retry: boolean;
  }): Promise<{ readonly data: unknown }>;
}

/** For one answer, in milliseconds. */
const timeoutMs = 10_000;

/**
 * Google Cloud KMS's Ed25519 keys, over its REST interface: the client of Google's is 2.6 MB of gRPC
 * for two requests. Each method throws NicheError `signer-denied`, `signer-unavailable` (down,
 * throttled or damaged on the way: a retry may help) and `wrong-key` (there is no such key version,
 * it is disabled, or it is of another kind).
 *
 * @see https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions
 */
export function openGcpKms(options: GcpKmsOptions = {}): GcpKms {
  const { endpoint = 'https://cloudkms.googleapis.com' } = options;
  const pace = options.pace ?? createRetrier({ maxConcurrency: 16 });
  let opened: Promise<RequestClient> | undefined;

  async function open(): Promise<RequestClient> {
    if (options.client) return options.client;
    const { GoogleAuth } = await import('google-auth-library');
    return new GoogleAuth({ scopes: 'https://www.googleapis.com/auth/cloudkms' }).getClient();
  }

  /** `check` returns what it makes of an answer that came whole; it throws for one that did not. */
  async function request<T>(
    action: string,
    keyVersion: string,
    { path, data }: { readonly path: string; readonly data?: object },
    check: (answer: unknown) => T,
  ): Promise<T> {
    return pace.run({
      action,
      async attempt() {
        opened ??= open();
        const client = await opened.catch((error: unknown) => {
          opened = undefined;
          throw new CredentialsError(messageOf(error), { cause: error });
        });
        const answer = await client.request({
          url: `${endpoint}/v1/${keyVersion}${path}`,
          method: data === undefined ? 'GET' : 'POST',
          ...(data === undefined ? {} : { data }),
          timeout: timeoutMs,
          // Retries are the pace's: the library's own would multiply them.
          retry: false,
        });
        return check(answer.data);
      },
      explain: (error) => explain(error, `${action} with ${keyVersion}`),
    });
  }

  return {
    signer(keyVersion, publicKey) {
      const { name } = parsePublicKey(publicKey);
      return {
        keyName: name,
        publicKey,
        keyId: keyVersion,
        maxBytes: gcpKmsMaxBytes,
        async sign(fingerprint) {
          const bytes = Buffer.from(fingerprint);
          const data = { data: bytes.toString('base64'), dataCrc32c: String(crc32c(bytes)) };
          return request('signing', keyVersion, { path: ':asymmetricSign', data }, (read) => {
            const answer = read as AsymmetricSignResponse;
            const signature = Buffer.from(answer.signature ?? '', 'base64');
            if (answer.verifiedDataCrc32c !== true) {
              throw new DamagedError('what was to be signed came damaged, or was not checked');
            }
            assertName(answer.name, keyVersion);
            assertIntact(signature, answer.signatureCrc32c, 'the signature');
            if (signature.length !== 64) {
              throw new DamagedError(`expected 64 bytes, got ${signature.length}`);
            }
            return { signature: formatSignature({ name, signature }) };
          });
        },
      };
    },

    async publicKey(keyVersion, keyName) {
      const answer = await request(
        'reading the public key',
        keyVersion,
        { path: '/publicKey' },
        (read) => {
          const { name, pem = '', pemCrc32c, algorithm: kind } = read as PublicKey;
          assertName(name, keyVersion);
          assertIntact(Buffer.from(pem), pemCrc32c, 'the public key');
          return { pem, algorithm: kind };
        },
      );
      const key = answer.algorithm === algorithm ? ed25519Key(answer.pem) : null;
      if (key === null) {
        throw new NicheError(
          'wrong-key',
          `${keyVersion} is no key to sign with: expected ${algorithm}, got ${answer.algorithm ?? 'none'}`,
          { hint: 'make one with purpose ASYMMETRIC_SIGN and that algorithm, or name another' },
        );
      }
      return formatPublicKey({ name: keyName, key });
    },
  };
}

interface AsymmetricSignResponse {
  readonly signature?: string;
  /** Int64Value: a decimal number as a string. */
  readonly signatureCrc32c?: string;
  readonly verifiedDataCrc32c?: boolean;
  readonly name?: string;
}

interface PublicKey {
  readonly pem?: string;
  readonly algorithm?: string;
  readonly pemCrc32c?: string;
  readonly name?: string;
}

/** An answer that is not what was asked for; asking again may help. */
class DamagedError extends Error {}
class CredentialsError extends Error {}

function assertName(got: string | undefined, expected: string): void {
  if (got !== expected)
    throw new DamagedError(`the answer is of the key ${got ?? 'without a name'}`);
}

function assertIntact(bytes: Uint8Array, checksum: string | undefined, what: string): void {
  if (checksum !== String(crc32c(bytes))) throw new DamagedError(`${what} came damaged`);
}

function ed25519Key(pem: string): Uint8Array | null {
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch {
    return null;
  }
  const { kty, crv, x } = key.export({ format: 'jwk' });
  return kty === 'OKP' && crv === 'Ed25519' ? Buffer.from(x ?? '', 'base64url') : null;
}

/** Judges what was thrown, by the HTTP status and the names of google.rpc.Code. */
function explain(error: unknown, doing: string): Failure {
  const response = (error as { response?: { status?: unknown; data?: unknown } }).response;
  const http = Number(response?.status ?? 0);
  const { status = '', message = messageOf(error) } =
    (response?.data as { error?: { status?: string; message?: string } } | undefined)?.error ?? {};
  const fail = (
    code: 'wrong-key' | 'signer-denied' | 'signer-unavailable',
    hint?: string,
  ): NicheError =>
    new NicheError(
      code,
      `${doing} at Google Cloud KMS: ${[status, message].filter(Boolean).join(': ')}`,
      {
        cause: error,
        ...(hint === undefined ? {} : { hint }),
      },
    );
  if (error instanceof CredentialsError) {
    const hint =
      'log in with gcloud auth application-default login, or name a key file in GOOGLE_APPLICATION_CREDENTIALS';
    return { kind: 'final', error: fail('signer-denied', hint) };
  }
  if (http === 429 || status === 'RESOURCE_EXHAUSTED') {
    return { kind: 'throttled', error: fail('signer-unavailable') };
  }
  if (http === 401 || http === 403) {
    const hint = 'roles/cloudkms.signer and roles/cloudkms.publicKeyViewer of this key are needed';
    return { kind: 'final', error: fail('signer-denied', hint) };
  }
  // What came damaged is refused like any bad argument, with the checksum's field in the message.
  if (http === 400 && /crc32c|checksum/i.test(message)) {
    return { kind: 'transient', error: fail('signer-unavailable') };
  }
  if (http >= 400 && http < 500 && http !== 408) {
    const hint = 'look at the key version in the console: its state, location and algorithm';
    return { kind: 'final', error: fail('wrong-key', hint) };
  }
  return { kind: 'transient', error: fail('signer-unavailable') };
}

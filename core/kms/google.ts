import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

import * as z from 'zod';

import { messageOf } from '../errors.ts';
import { crc32c } from '../util/crc32c.ts';
import { createGoogleAuth, lacksGoogleCredentials } from '../util/google-auth.ts';
import type { GoogleAuth } from '../util/google-auth.ts';
import { createGoogleRest, GoogleResponseError } from '../util/google-rest.ts';
import { createRetrier, retryAfterMs } from '../util/retry.ts';
import type { Failure, Retrier } from '../util/retry.ts';
import { damaged, KmsError, readResponse } from './kms.ts';
import type { KmsErrorReason, SigningKms } from './kms.ts';

/**
 * Google Cloud KMS. A key that signs is the resource name of a key version,
 * `projects/…/cryptoKeys/…/cryptoKeyVersions/…`; a key that encrypts is one without a version. Every
 * method throws {@link KmsError}.
 */
export interface GoogleKms extends SigningKms {
  encrypt(key: string, plaintext: Uint8Array): Promise<Uint8Array>;
  decrypt(key: string, ciphertext: Uint8Array): Promise<Uint8Array>;
}

export interface GoogleKmsOptions {
  /** @default application default credentials */
  readonly auth?: GoogleAuth | undefined;
  /** @default https://cloudkms.googleapis.com */
  readonly endpoint?: string | undefined;
  /** @default one for this client only: Google throttles by project */
  readonly retrier?: Retrier | undefined;
  /** The longest time without a byte in either direction, in milliseconds. @default 10,000 */
  readonly idleTimeoutMs?: number | undefined;
}

const scope = 'https://www.googleapis.com/auth/cloudkms';
const signingAlgorithm = 'EC_SIGN_ED25519';

/** @see https://cloud.google.com/kms/quotas#resource_limits */
const maxMessageBytes = 64 * 1024;

/**
 * Opens Google Cloud KMS over its REST API: Google's own client is 2.6 MB of gRPC. Each request and
 * each response carries a CRC-32C of its data, which both sides check.
 *
 * @see https://cloud.google.com/kms/docs/reference/rest
 * @see https://cloud.google.com/kms/docs/data-integrity-guidelines
 */
export function openGoogleKms(options: GoogleKmsOptions = {}): GoogleKms {
  const { endpoint = 'https://cloudkms.googleapis.com' } = options;
  const auth = options.auth ?? createGoogleAuth({ scope });
  const rest = createGoogleRest({ auth, idleTimeoutMs: options.idleTimeoutMs });
  const retrier = options.retrier ?? createRetrier({ maxConcurrency: 16 });

  /** @param read returns the result of an intact response, and throws for a damaged one */
  function request<T>(
    action: string,
    path: string,
    body: object | undefined,
    read: (response: unknown) => T,
  ): Promise<T> {
    const url = `${endpoint}/v1/${path}`;
    return retrier.run({
      action,
      async attempt() {
        // Tells an error of the credentials from one of the request. The token is cached.
        await auth.headers(url).catch((error: unknown) => {
          throw new CredentialsError(messageOf(error), { cause: error });
        });
        return read(await rest.call(url, body));
      },
      explain,
    });
  }

  return {
    service: 'Google Cloud KMS',
    maxMessageBytes,
    signPermissions: 'roles/cloudkms.signer and roles/cloudkms.publicKeyViewer',

    encrypt(key, plaintext) {
      const body = {
        plaintext: encode(plaintext),
        plaintextCrc32c: checksum(plaintext),
      };
      return request('encrypting', `${key}:encrypt`, body, (response) => {
        const { name, ciphertext, ciphertextCrc32c, verifiedPlaintextCrc32c } = readResponse(
          encrypted,
          response,
        );
        assertVerified(verifiedPlaintextCrc32c, 'the plaintext');
        // The name is the one of the key version that encrypted.
        assertKey(name?.replace(/\/cryptoKeyVersions\/[0-9]+$/, ''), key);
        return decode(ciphertext, ciphertextCrc32c, 'the ciphertext');
      });
    },

    decrypt(key, ciphertext) {
      const body = {
        ciphertext: encode(ciphertext),
        ciphertextCrc32c: checksum(ciphertext),
      };
      return request('decrypting', `${key}:decrypt`, body, (response) => {
        const { plaintext, plaintextCrc32c } = readResponse(decrypted, response);
        return decode(plaintext, plaintextCrc32c, 'the plaintext');
      });
    },

    sign(keyVersion, message) {
      const body = { data: encode(message), dataCrc32c: checksum(message) };
      return request('signing', `${keyVersion}:asymmetricSign`, body, (response) => {
        const { name, signature, signatureCrc32c, verifiedDataCrc32c } = readResponse(
          signed,
          response,
        );
        assertVerified(verifiedDataCrc32c, 'the message');
        assertKey(name, keyVersion);
        const bytes = decode(signature, signatureCrc32c, 'the signature');
        if (bytes.length !== 64) {
          damaged(`expected a signature of 64 bytes, got ${bytes.length}`);
        }
        return { signature: bytes };
      });
    },

    async publicKey(keyVersion) {
      const path = `${keyVersion}/publicKey`;
      const { pem, algorithm } = await request(
        'reading a public key',
        path,
        undefined,
        (response) => {
          const { name, pem, pemCrc32c, algorithm } = readResponse(publicKeyResponse, response);
          assertKey(name, keyVersion);
          assertIntact(Buffer.from(pem), pemCrc32c, 'the public key');
          return { pem, algorithm };
        },
      );
      const key = algorithm === signingAlgorithm ? ed25519Key(pem) : null;
      if (key !== null) return key;
      throw new KmsError(
        'wrong-key',
        `expected a key of ${signingAlgorithm}, got ${algorithm ?? 'none'}`,
        { hint: `create one with purpose ASYMMETRIC_SIGN and algorithm ${signingAlgorithm}` },
      );
    },
  };
}

/** A checksum is an Int64Value: a decimal number as a string. */
const checked = z.string().optional();
const text = z.string().optional();

const encrypted = z.object({
  name: text,
  ciphertext: z.base64(),
  ciphertextCrc32c: checked,
  verifiedPlaintextCrc32c: z.boolean().optional(),
});
const decrypted = z.object({ plaintext: z.base64(), plaintextCrc32c: checked });
const signed = z.object({
  name: text,
  signature: z.base64(),
  signatureCrc32c: checked,
  verifiedDataCrc32c: z.boolean().optional(),
});
const publicKeyResponse = z.object({
  name: text,
  pem: z.string(),
  pemCrc32c: checked,
  algorithm: text,
});

class CredentialsError extends Error {}

function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function checksum(bytes: Uint8Array): string {
  return String(crc32c(bytes));
}

function decode(encoded: string, expected: string | undefined, what: string): Uint8Array {
  const bytes = Buffer.from(encoded, 'base64');
  assertIntact(bytes, expected, what);
  return bytes;
}

function assertIntact(bytes: Uint8Array, expected: string | undefined, what: string): void {
  if (expected !== checksum(bytes)) damaged(`${what} was damaged`);
}

/** Google reports whether it received the checksum of the request's data. */
function assertVerified(isVerified: boolean | undefined, what: string): void {
  if (isVerified !== true) damaged(`${what} was damaged, or not verified`);
}

function assertKey(got: string | undefined, expected: string): void {
  if (got === expected) return;
  damaged(`expected a response for ${expected}, got one for ${got ?? 'no key'}`);
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

/**
 * Judges an error by its HTTP status and google.rpc.Code.
 *
 * @see https://cloud.google.com/apis/design/errors
 */
function explain(error: unknown): Failure {
  if (error instanceof KmsError) return { kind: 'transient', error };
  const { status = 0, rpcStatus = '', headers } = error instanceof GoogleResponseError ? error : {};
  const message = messageOf(error);
  const failure = (kind: Failure['kind'], reason: KmsErrorReason, hint?: string): Failure => ({
    kind,
    retryAfterMs: retryAfterMs(headers?.['retry-after']),
    error: new KmsError(reason, rpcStatus === '' ? message : `${rpcStatus}: ${message}`, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    }),
  });
  if (error instanceof CredentialsError) {
    if (isConnectionError(error.cause)) return failure('transient', 'unavailable');
    const reason = lacksGoogleCredentials(error.cause) ? 'no-credentials' : 'denied';
    return failure('final', reason, 'run: gcloud auth application-default login');
  }
  if (status === 429 || rpcStatus === 'RESOURCE_EXHAUSTED') {
    return failure('throttled', 'unavailable');
  }
  if (status === 401 || status === 403) return failure('final', 'denied');
  // Google rejects a request that fails its checksum as it does any invalid argument.
  if (status === 400 && /crc32c|checksum/i.test(message)) {
    return failure('transient', 'unavailable');
  }
  if (status === 400 && /decryption failed/i.test(message)) {
    return failure('final', 'wrong-ciphertext');
  }
  if (status >= 400 && status < 500 && status !== 408) {
    const hint = 'check the key in the console: state, location and algorithm';
    return failure('final', 'wrong-key', hint);
  }
  return failure('transient', 'unavailable');
}

/** Whether the token endpoint did not respond, or failed. */
function isConnectionError(error: unknown): boolean {
  const { code, response } = error as {
    code?: unknown;
    response?: { status?: number };
  };
  const status = response?.status ?? 0;
  const isNetwork = /^(?:ECONN|ETIMEDOUT|EPIPE|EAI_AGAIN|ENOTFOUND|EHOSTUNREACH|ENETUNREACH)/.test(
    typeof code === 'string' ? code : '',
  );
  return isNetwork || status === 429 || status >= 500;
}

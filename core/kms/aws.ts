import type { KMSClient, KMSClientConfig } from '@aws-sdk/client-kms';

import { messageOf } from '../errors.ts';
import { credentialsBehindProxy, transportHandler } from '../util/aws-handler.ts';
import { createRetrier, retryAfterMs } from '../util/retry.ts';
import type { Failure, Retrier } from '../util/retry.ts';
import { createTransport } from '../util/transport.ts';
import type * as SdkModule from './aws-sdk.ts';
import { damaged, defaultIdleTimeoutMs, KmsError } from './kms.ts';
import type { KmsErrorReason, SigningKms } from './kms.ts';

/** The encryption context: authenticated, logged, and the same for encryption and decryption. */
export type EncryptionContext = Readonly<Record<string, string>>;

/** AWS KMS. A key is an ARN, an id or `alias/…`. Every method throws {@link KmsError}. */
export interface AwsKms extends SigningKms {
  encrypt(key: string, plaintext: Uint8Array, context?: EncryptionContext): Promise<Uint8Array>;
  decrypt(key: string, ciphertext: Uint8Array, context?: EncryptionContext): Promise<Uint8Array>;
  /**
   * Creates an Ed25519 signing key with an alias. Schedules the key for deletion if the alias cannot
   * be created, since a key costs a dollar a month.
   *
   * @param alias `alias/…`
   * @returns its ARN
   * @throws KmsError `exists` if the alias is taken
   */
  createKey(alias: string, description: string): Promise<string>;
  /** Closes idle connections. */
  close(): Promise<void>;
}

export interface AwsKmsOptions {
  /** The client's settings. @default those of the environment */
  readonly config?: KMSClientConfig | undefined;
  /** @default one for this client only: AWS throttles by account and key */
  readonly retrier?: Retrier | undefined;
  /** The longest time without a byte in either direction, in milliseconds. @default 10,000 */
  readonly idleTimeoutMs?: number | undefined;
}

/** @see https://docs.aws.amazon.com/kms/latest/developerguide/symm-asymm-choose-key-spec.html */
const signingKeySpec = 'ECC_NIST_EDWARDS25519';

/** @see https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html, for a raw message */
const maxMessageBytes = 4096;

/**
 * Opens AWS KMS. Loads the SDK on first use.
 *
 * @see https://docs.aws.amazon.com/kms/latest/APIReference/Welcome.html
 */
export function openAwsKms(options: AwsKmsOptions = {}): AwsKms {
  const retrier = options.retrier ?? createRetrier({ maxConcurrency: 16 });
  const { idleTimeoutMs = defaultIdleTimeoutMs } = options;
  let opened: Promise<Sdk> | undefined;

  async function open(): Promise<Sdk> {
    const sdk = await import('./aws-sdk.ts');
    const requestHandler = transportHandler(sdk, createTransport(idleTimeoutMs));
    const client = new sdk.KMSClient({
      requestHandler,
      ...credentialsBehindProxy(requestHandler),
      ...options.config,
      // The retrier retries. Retries of the SDK would multiply its attempts.
      maxAttempts: 1,
    });
    return { ...sdk, client };
  }

  async function request<T>(action: string, send: (sdk: Sdk) => Promise<T>): Promise<T> {
    const sdk = await (opened ??= open());
    return retrier.run({ action, attempt: () => send(sdk), explain });
  }

  return {
    service: 'AWS KMS',
    maxMessageBytes,
    signPermissions: 'kms:Sign and kms:GetPublicKey',

    encrypt: (key, plaintext, context) =>
      request('encrypting', async ({ client, EncryptCommand }) => {
        const { CiphertextBlob } = await client.send(
          new EncryptCommand({ KeyId: key, Plaintext: plaintext, EncryptionContext: context }),
        );
        return readBytes(CiphertextBlob, 'ciphertext');
      }),

    decrypt: (key, ciphertext, context) =>
      request('decrypting', async ({ client, DecryptCommand }) => {
        const { Plaintext } = await client.send(
          new DecryptCommand({
            KeyId: key,
            CiphertextBlob: ciphertext,
            EncryptionContext: context,
          }),
        );
        return readBytes(Plaintext, 'plaintext');
      }),

    sign: (key, message) =>
      request('signing', async ({ client, SignCommand }) => {
        const { Signature, $metadata } = await client.send(
          new SignCommand({
            KeyId: key,
            Message: message,
            MessageType: 'RAW',
            SigningAlgorithm: 'ED25519_SHA_512',
          }),
        );
        const length = Signature?.length ?? 0;
        if (!Signature || length !== 64) {
          return damaged(`expected a signature of 64 bytes, got ${length}`);
        }
        return { signature: Signature, requestId: $metadata.requestId };
      }),

    async publicKey(key) {
      const { PublicKey, KeySpec, KeyUsage } = await request(
        'reading a public key',
        ({ client, GetPublicKeyCommand }) => client.send(new GetPublicKeyCommand({ KeyId: key })),
      );
      const bytes = ed25519Key(PublicKey);
      if (KeySpec === signingKeySpec && KeyUsage === 'SIGN_VERIFY' && bytes !== null) return bytes;
      throw new KmsError(
        'wrong-key',
        `expected a key of ${signingKeySpec} for SIGN_VERIFY, got ${KeySpec ?? 'none'} for ${KeyUsage ?? 'nothing'}`,
        { hint: 'create a key with niche init --create-key, or specify another one' },
      );
    },

    async createKey(alias, description) {
      const { KeyMetadata } = await request('creating a key', ({ client, CreateKeyCommand }) =>
        client.send(
          new CreateKeyCommand({
            KeySpec: signingKeySpec,
            KeyUsage: 'SIGN_VERIFY',
            Description: description,
          }),
        ),
      );
      const { KeyId: id = '', Arn: arn = id } = KeyMetadata ?? {};
      try {
        await request('creating an alias', ({ client, CreateAliasCommand }) =>
          client.send(new CreateAliasCommand({ AliasName: alias, TargetKeyId: id })),
        );
      } catch (error) {
        try {
          await request('deleting a key', ({ client, ScheduleKeyDeletionCommand }) =>
            client.send(new ScheduleKeyDeletionCommand({ KeyId: id, PendingWindowInDays: 7 })),
          );
        } catch {
          // The first error is the cause. This one leaves a key that costs money.
          const hint = `delete the unused key: aws kms schedule-key-deletion --key-id ${arn}`;
          throw error instanceof KmsError
            ? new KmsError(error.reason, error.message, { cause: error, hint })
            : error;
        }
        throw error;
      }
      return arn;
    },

    async close() {
      (await opened)?.client.destroy();
    },
  };
}

/** Returns the bytes of a response. The SDK does not check the types in it. */
function readBytes(value: unknown, what: string): Uint8Array {
  return value instanceof Uint8Array ? value : damaged(`the response has no ${what}`);
}

type Sdk = typeof SdkModule & { readonly client: KMSClient };

/** The prefix of an Ed25519 SubjectPublicKeyInfo, before the 32 bytes of the key (RFC 8410). */
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex');

function ed25519Key(spki: Uint8Array | undefined): Uint8Array | null {
  if (spki?.length !== spkiPrefix.length + 32) return null;
  return spkiPrefix.equals(spki.subarray(0, spkiPrefix.length))
    ? spki.subarray(spkiPrefix.length)
    : null;
}

const throttled = /Throttl|LimitExceeded|TooManyRequests|SlowDown|RequestLimit/;
const denied =
  /AccessDenied|UnrecognizedClient|InvalidClientTokenId|ExpiredToken|NotAuthorized|Signature|MissingAuthenticationToken|OptInRequired/;
const wrongKey =
  /^(?:NotFoundException|DisabledException|KMSInvalidStateException|InvalidKeyUsageException|UnsupportedOperationException|InvalidArnException|ValidationException|InvalidAliasNameException)$/;
const wrongCiphertext = /^(?:InvalidCiphertextException|IncorrectKeyException)$/;

/** The used part of the SDK's errors. */
interface SdkError {
  readonly name?: string;
  readonly $response?: { readonly headers?: Readonly<Record<string, string | undefined>> };
}

/**
 * Judges an error of the SDK by its name.
 *
 * @see https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html
 */
function explain(error: unknown): Failure {
  if (error instanceof KmsError) return { kind: 'transient', error };
  const { name = '', $response } = error as SdkError;
  // The message of a syntax error quotes the response, which may hold a secret.
  const message =
    name === 'SyntaxError' ? 'the response is not JSON' : `${name}: ${messageOf(error)}`;
  const failure = (kind: Failure['kind'], reason: KmsErrorReason, hint?: string): Failure => ({
    kind,
    retryAfterMs: retryAfterMs($response?.headers?.['retry-after']),
    error: new KmsError(reason, message, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    }),
  });
  if (throttled.test(name)) return failure('throttled', 'unavailable');
  if (name === 'CredentialsProviderError') return failure('final', 'no-credentials');
  if (name === 'AlreadyExistsException') {
    return failure('final', 'exists', 'leave out --create-key to use the key of this alias');
  }
  if (wrongCiphertext.test(name)) return failure('final', 'wrong-ciphertext');
  if (wrongKey.test(name)) {
    return failure(
      'final',
      'wrong-key',
      'check the key in the KMS console: state, region and kind',
    );
  }
  return denied.test(name) ? failure('final', 'denied') : failure('transient', 'unavailable');
}

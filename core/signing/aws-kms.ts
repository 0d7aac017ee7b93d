import type { KMSClient, KMSClientConfig } from '@aws-sdk/client-kms';

import { NicheError, messageOf } from '../errors.ts';
import { formatPublicKey, formatSignature, parsePublicKey } from '../nix/keys.ts';
import { createRetrier } from '../util/retry.ts';
import type { Failure, Retrier } from '../util/retry.ts';
import type * as SdkModule from './aws-kms-sdk.ts';
import type { Signer } from './signer.ts';

/** The most that AWS KMS signs as it is, in bytes. */
export const awsKmsMaxBytes = 4096;

const keySpec = 'ECC_NIST_EDWARDS25519';

export interface AwsKms {
  /**
   * A signer whose key never leaves AWS KMS.
   *
   * @param keyId an ARN, an id or `alias/…`
   * @param publicKey `<key name>:<base64>`, as {@link publicKey} gave it
   */
  signer(keyId: string, publicKey: string): Signer;
  /**
   * The public half of a key, under the name that it is to have in signatures.
   *
   * @throws NicheError `wrong-key` for a key that makes no Ed25519 signatures
   */
  publicKey(keyId: string, keyName: string): Promise<string>;
  /**
   * Makes a key and points `alias/…` at it.
   *
   * @returns its ARN
   * @throws NicheError `usage` when the alias is taken
   */
  createKey(alias: string, description: string): Promise<string>;
}

export interface AwsKmsOptions {
  /** A ready client; else one is made of `config` on first use. */
  readonly client?: KMSClient | undefined;
  readonly config?: KMSClientConfig | undefined;
  /** How requests are repeated; of one's own, since KMS throttles by account and key. */
  readonly retrier?: Retrier | undefined;
}

/**
 * AWS KMS's Ed25519 keys. Each method throws NicheError `signer-denied`, `signer-unavailable` (down
 * or throttled: a retry may help) and `wrong-key` (there is no such key, it is disabled, or it is of
 * another kind).
 *
 * @see https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html
 */
export function openAwsKms(options: AwsKmsOptions = {}): AwsKms {
  const pace = options.retrier ?? createRetrier({ maxConcurrency: 16 });
  let opened: Promise<Sdk> | undefined;

  async function open(): Promise<Sdk> {
    const sdk = await import('./aws-kms-sdk.ts');
    // Retries are the pace's: the SDK's own would multiply them.
    const client = options.client ?? new sdk.KMSClient({ ...options.config, maxAttempts: 1 });
    return { ...sdk, client };
  }

  async function request<T>(
    action: string,
    keyId: string,
    send: (sdk: Sdk) => Promise<T>,
  ): Promise<T> {
    const sdk = await (opened ??= open());
    return pace.run({
      action,
      attempt: () => send(sdk),
      explain: (error) => explain(error, action, keyId),
    });
  }

  return {
    signer(keyId, publicKey) {
      const { name } = parsePublicKey(publicKey);
      return {
        keyName: name,
        publicKey,
        keyId,
        maxBytes: awsKmsMaxBytes,
        async sign(fingerprint) {
          const { Signature, $metadata } = await request('signing', keyId, (sdk) =>
            sdk.client.send(
              new sdk.SignCommand({
                KeyId: keyId,
                Message: Buffer.from(fingerprint),
                MessageType: 'RAW',
                SigningAlgorithm: 'ED25519_SHA_512',
              }),
            ),
          );
          if (Signature?.length !== 64) {
            throw new NicheError(
              'signer-unavailable',
              `signing with ${keyId}: expected a signature of 64 bytes, got ${Signature?.length ?? 0}`,
            );
          }
          const signature = formatSignature({ name, signature: Signature });
          const { requestId } = $metadata;
          return requestId === undefined ? { signature } : { signature, requestId };
        },
      };
    },

    async publicKey(keyId, keyName) {
      const answer = await request('reading the public key', keyId, (sdk) =>
        sdk.client.send(new sdk.GetPublicKeyCommand({ KeyId: keyId })),
      );
      const key = ed25519Key(answer.PublicKey);
      if (answer.KeySpec !== keySpec || answer.KeyUsage !== 'SIGN_VERIFY' || key === null) {
        throw new NicheError(
          'wrong-key',
          `${keyId} is no key to sign with: expected ${keySpec} for SIGN_VERIFY, got ${answer.KeySpec ?? 'none'} for ${answer.KeyUsage ?? 'nothing'}`,
          { hint: 'make one with niche init --create-key, or name another' },
        );
      }
      return formatPublicKey({ name: keyName, key });
    },

    async createKey(alias, description) {
      const { KeyMetadata } = await request('making a key', alias, (sdk) =>
        sdk.client.send(
          new sdk.CreateKeyCommand({
            KeySpec: keySpec,
            KeyUsage: 'SIGN_VERIFY',
            Description: description,
          }),
        ),
      );
      const { KeyId: id = '', Arn: arn = id } = KeyMetadata ?? {};
      try {
        await request('naming a key', alias, (sdk) =>
          sdk.client.send(new sdk.CreateAliasCommand({ AliasName: alias, TargetKeyId: id })),
        );
      } catch (error) {
        // Nobody would ever find a key without its name, and it costs a dollar a month.
        await request('giving up a key', id, (sdk) =>
          sdk.client.send(
            new sdk.ScheduleKeyDeletionCommand({ KeyId: id, PendingWindowInDays: 7 }),
          ),
        );
        throw error;
      }
      return arn;
    },
  };
}

type Sdk = typeof SdkModule & { readonly client: KMSClient };

/** What precedes the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4). */
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex');

function ed25519Key(spki: Uint8Array | undefined): Uint8Array | null {
  if (spki?.length !== spkiPrefix.length + 32) return null;
  return spkiPrefix.equals(spki.subarray(0, spkiPrefix.length))
    ? spki.subarray(spkiPrefix.length)
    : null;
}

const throttled = /Throttl|LimitExceeded|TooManyRequests|SlowDown|RequestLimit/;
const denied =
  /AccessDenied|UnrecognizedClient|InvalidClientTokenId|ExpiredToken|NotAuthorized|Signature|MissingAuthenticationToken|OptInRequired|CredentialsProviderError/;
const wrong =
  /^(?:NotFoundException|DisabledException|KMSInvalidStateException|InvalidKeyUsageException|UnsupportedOperationException|InvalidArnException|ValidationException|InvalidAliasNameException)$/;

/** Judges what the SDK threw, by the names of KMS's API reference. */
function explain(error: unknown, action: string, keyId: string): Failure {
  const { name = '' } = error as { name?: string };
  const fail = (
    code: 'usage' | 'wrong-key' | 'signer-denied' | 'signer-unavailable',
    hint?: string,
  ): NicheError =>
    new NicheError(code, `${action} with ${keyId} at AWS KMS: ${name}: ${messageOf(error)}`, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    });
  if (throttled.test(name)) return { kind: 'throttled', error: fail('signer-unavailable') };
  if (name === 'AlreadyExistsException') {
    const hint = 'leave out --create-key to take the key that has this alias';
    return { kind: 'final', error: fail('usage', hint) };
  }
  if (wrong.test(name)) {
    const hint = 'look at the key in the KMS console: its state, region and kind';
    return { kind: 'final', error: fail('wrong-key', hint) };
  }
  if (denied.test(name)) {
    const hint = 'kms:Sign and kms:GetPublicKey of this key must be allowed to whoever runs this';
    return { kind: 'final', error: fail('signer-denied', hint) };
  }
  return { kind: 'transient', error: fail('signer-unavailable') };
}

import type * as z from 'zod';

import { oneLine } from '../errors.ts';

/** Why a request to a KMS failed. */
export type KmsErrorReason =
  /** This machine has no credentials for the service. */
  | 'no-credentials'
  | 'denied'
  /** The key is missing, disabled, or of another kind. */
  | 'wrong-key'
  /** Another key, or another encryption context, encrypted the ciphertext. */
  | 'wrong-ciphertext'
  /** The name of a new key is taken. */
  | 'exists'
  /** The service is down, it throttles, or the response was damaged. A later request may succeed. */
  | 'unavailable';

/** A failed request to a KMS. Its message is one line, and holds no secret. */
export class KmsError extends Error {
  override readonly name = 'KmsError';
  readonly reason: KmsErrorReason;
  /** A command that works as printed, or one action. */
  readonly hint: string | undefined;

  constructor(
    reason: KmsErrorReason,
    message: string,
    { cause, hint }: { readonly cause?: unknown; readonly hint?: string } = {},
  ) {
    super(oneLine(message), { cause });
    this.reason = reason;
    this.hint = hint;
  }
}

/** An Ed25519 signature (RFC 8032). */
export interface KmsSignature {
  /** 64 bytes. */
  readonly signature: Uint8Array;
  /** The id of the request in the KMS's own log. */
  readonly requestId?: string | undefined;
}

/** A KMS with Ed25519 keys. */
export interface SigningKms {
  /** The name of the service for messages, as `AWS KMS`. */
  readonly service: string;
  /** The longest message that a key signs, in bytes. */
  readonly maxMessageBytes: number;
  /** The permissions that {@link sign} and {@link publicKey} need, for hints. */
  readonly signPermissions: string;
  /**
   * Signs a message.
   *
   * @param key as the KMS identifies keys
   * @throws KmsError
   */
  sign(key: string, message: Uint8Array): Promise<KmsSignature>;
  /**
   * Returns the public key, 32 bytes.
   *
   * @throws KmsError `wrong-key` for a key of another kind
   */
  publicKey(key: string): Promise<Uint8Array>;
}

/** Without a byte in either direction, in milliseconds. */
export const defaultIdleTimeoutMs = 10_000;

/**
 * Reports a response that was damaged. Another attempt may succeed.
 *
 * @throws KmsError `unavailable`
 */
export function damaged(reason: string): never {
  throw new KmsError('unavailable', reason);
}

/**
 * Returns the used part of a JSON response.
 *
 * @throws KmsError `unavailable` if it does not match the schema
 */
export function readResponse<T>(schema: z.ZodType<T>, response: unknown): T {
  const result = schema.safeParse(response);
  if (result.success) return result.data;
  const fields = result.error.issues.map(({ path }) => path.join('.')).filter(Boolean);
  return damaged(`the response lacks ${fields.join(', ') || 'its fields'}, or has another type`);
}

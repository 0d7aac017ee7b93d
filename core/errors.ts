import { inspect } from 'node:util';

import { redactSecrets } from './redact.ts';

/** The kind of failure, for callers that branch on it. The message is for people. */
export type NicheErrorCode =
  // Nix formats
  | 'malformed-base32'
  | 'malformed-hash'
  | 'malformed-store-path'
  | 'malformed-listing'
  | 'malformed-narinfo'
  | 'malformed-signature'
  | 'malformed-key'
  | 'malformed-path-info'
  | 'malformed-derivation'
  | 'malformed-realisation'
  | 'malformed-cache-info'
  // events of buckets
  | 'malformed-event'
  | 'caller-denied'
  // staging and publishing; also the codes of a receipt
  | RejectionCode
  | 'oversized'
  // storage
  | 'storage-denied'
  | 'storage-unavailable'
  | 'storage-full'
  | 'storage-integrity'
  | 'invalid-key'
  | 'invalid-url'
  | 'insecure-url'
  // a cache and its settings
  | 'not-a-cache'
  | 'cache-exists'
  | 'malformed-config'
  | 'newer-version'
  | 'malformed-audit'
  | 'malformed-receipt'
  | 'wrong-key'
  | 'upstream-unavailable'
  | 'publisher-running'
  // existing narinfos that no command signs
  | 'untrusted-path'
  | 'unreadable-nar'
  // a publisher's time limit and its signers
  | 'out-of-time'
  | 'signer-denied'
  | 'signer-unavailable'
  | 'invalid-signer'
  // secret documents and their recipients
  | 'malformed-secrets'
  | 'altered-secrets'
  | 'no-identity'
  | 'identity-failed'
  | 'unusable-recipient'
  | 'unsafe-recipients'
  | 'unsafe-credentials'
  | 'changed-meanwhile'
  | 'key-in-use'
  // the command line and nix
  | 'usage'
  | 'nix-missing'
  | 'nix-failed'
  | 'not-found'
  | 'unpackable'
  | 'aborted'
  | 'internal';

const rejectionCodes = [
  'malformed-manifest',
  'missing-nar',
  'malformed-nar',
  'nar-hash-mismatch',
  'nar-size-mismatch',
  'unproven-reference',
  'unclaimed-reference',
  'ca-mismatch',
  'unsupported-ca',
  'unsignable',
  'conflict',
  'unverified-narinfo',
  'upstream-conflict',
  'blocked',
  'missing-references',
  'too-large',
  'failed',
] as const;

/** Why the publisher rejected a staged path. */
export type RejectionCode = (typeof rejectionCodes)[number];

export interface NicheErrorOptions extends ErrorOptions {
  /** What the user can do next: a command or one action, without a full stop. */
  readonly hint?: string;
}

/**
 * The one error that niche throws on purpose. The message states what failed, what was expected and
 * what was found. It never contains a secret: servers repeat parts of requests, so these are redacted.
 */
export class NicheError extends Error {
  override readonly name = 'NicheError';
  readonly code: NicheErrorCode;
  readonly hint: string | undefined;

  constructor(code: NicheErrorCode, message: string, options?: NicheErrorOptions) {
    super(redactSecrets(message), options);
    this.code = code;
    this.hint = options?.hint === undefined ? undefined : redactSecrets(options.hint);
  }
}

/** Returns anything thrown as an Error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
}

/** Returns the message of anything thrown, for use in another message. Secrets are redacted. */
export function messageOf(error: unknown): string {
  return redactSecrets(error instanceof Error ? error.message : String(error));
}

/**
 * Returns everything about an error, for people who look for its cause: stack traces, causes, and the
 * responses of servers. Secrets are redacted.
 */
export function traceOf(error: unknown): string {
  return redactSecrets(inspect(error));
}

/** Whether `error` is a {@link NicheError} with one of `codes` (any code when none is given). */
export function isNicheError(error: unknown, ...codes: NicheErrorCode[]): error is NicheError {
  return error instanceof NicheError && (codes.length === 0 || codes.includes(error.code));
}

/** Whether `error` rejects a staged path. */
export function isRejection(error: unknown): error is NicheError & { code: RejectionCode } {
  return isNicheError(error, ...rejectionCodes);
}

const maxQuotedCharacters = 120;

/** Quotes `text` for a message: control characters escaped, cut to a readable length. */
export function quote(text: string): string {
  const cut =
    text.length > maxQuotedCharacters
      ? `${text.slice(0, maxQuotedCharacters)}… (${text.length} characters)`
      : text;
  return JSON.stringify(cut);
}

const maxPlainCharacters = 200;

/** Returns text from elsewhere for a message: quoted where it is long or has more than one line. */
export function oneLine(text: string): string {
  return /[\r\n]/.test(text) || text.length > maxPlainCharacters ? quote(text) : text;
}

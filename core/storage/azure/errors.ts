import { accountUrl, type AzureLocation } from './url.ts';
import {
  isSkewed,
  judgeHttp,
  mayHaveHappened,
  systemError,
  toFailure,
  verdicts,
  type HttpFailure,
  type Verdict,
} from '../http/failure.ts';
import type { Failure } from '../../util/retry.ts';

const down: Verdict = verdicts.down;
const retryLater: Verdict = verdicts.throttled;

const notAccepted: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'Azure rejects the credentials',
  hint: 'check that the key or SAS token belongs to this account and has not expired, and check the clock',
};

/** By Azure's own codes; other responses by status. */
const byCode: Readonly<Record<string, Verdict>> = {
  ServerBusy: retryLater,
  OperationTimedOut: down,
  InternalError: down,
  Md5Mismatch: verdicts.damaged,
  Crc64Mismatch: verdicts.damaged,
  ContainerNotFound: {
    kind: 'final',
    code: 'storage-unavailable',
    why: 'there is no such container',
    hint: 'check the account and the container in the URL, or create it with: niche init --create',
  },
  BlobArchived: unreadable('the blob is in the archive tier'),
  BlobBeingRehydrated: unreadable('the blob is still being restored from the archive tier'),
  BlobUsesCustomerSpecifiedEncryption: unreadable('the blob is encrypted with a key of its writer'),
  // A container of this name was deleted moments ago.
  ContainerBeingDeleted: { kind: 'transient', code: 'storage-unavailable' },
  ResourceNotFound: denied('the container is private or missing'),
  PublicAccessNotPermitted: denied('the account does not allow public access'),
  NoAuthenticationInformation: denied('the container is not public, and no credentials were given'),
  AuthorizationPermissionMismatch: denied('the credentials do not allow this'),
  AuthorizationFailure: denied('the account does not allow this, or not from this network'),
  AuthorizationProtocolMismatch: denied('the SAS token is for https only'),
  AuthorizationSourceIPMismatch: denied('the SAS token is for other IP addresses'),
  AuthorizationResourceTypeMismatch: denied('the SAS token is for another kind of resource'),
  InsufficientAccountPermissions: denied('the credentials do not allow this'),
  AccountIsDisabled: denied('the account is disabled'),
  AuthenticationFailed: notAccepted,
};

/** Classes of errors of Azure's identity library. */
const noIdentity =
  /^(?:CredentialUnavailableError|AggregateAuthenticationError|AuthenticationRequiredError|AuthenticationError)$/;

/** Not `storage-denied`, which some readers take for a missing object. */
function unreadable(why: string): Verdict {
  return { kind: 'final', code: 'storage-unavailable', why };
}

function denied(why: string): Verdict {
  return {
    kind: 'final',
    code: 'storage-denied',
    why,
    hint: 'see which permissions docs/storage/azure.md asks for, and which credentials are in use',
  };
}

/**
 * Classifies the error of an attempt, and explains it as a NicheError.
 *
 * @param anonymously the location of a request without credentials; null for one with credentials
 */
export function explainAzureError(
  error: unknown,
  action: string,
  anonymously: AzureLocation | null,
): Failure {
  const failure = read(error);
  const verdict = judge(failure, error);
  const isForLack = anonymously !== null && verdict.code === 'storage-denied';
  return toFailure(failure, isForLack ? noCredentials(anonymously) : verdict, action, error);
}

/** Whether `error` is a response of Azure with one of these codes or statuses. */
export function isAzureError(error: unknown, ...which: readonly (string | number)[]): boolean {
  const { code = '', status } = read(error);
  return which.includes(code) || (status !== undefined && which.includes(status));
}

/** Whether the request may have been carried out although it failed. */
export function mayHaveReachedAzure(error: unknown): boolean {
  return mayHaveHappened(read(error));
}

function noCredentials(location: AzureLocation): Verdict {
  return {
    kind: 'final',
    code: 'storage-denied',
    why: 'it is not public, and there are no credentials for this account at this endpoint',
    hint: `set AZURE_STORAGE_CONNECTION_STRING (its BlobEndpoint being ${accountUrl(location)}), or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY`,
  };
}

function judge(failure: HttpFailure, error: unknown): Verdict {
  const { name = '' } = (error ?? {}) as { name?: string };
  if (noIdentity.test(name)) {
    return {
      kind: 'final',
      code: 'storage-denied',
      why: 'there are no credentials for Azure',
      hint: 'sign in with az login, or set AZURE_STORAGE_CONNECTION_STRING',
    };
  }
  if (/not permitted for non-TLS/i.test(failure.message)) {
    return denied('an Azure identity is used over https only');
  }
  if (failure.status === 403 && isSkewed(failure)) return verdicts.skewed;
  // A wrong signature; the code differs.
  if (/failed to authenticate the request/i.test(failure.message)) return notAccepted;
  return byCode[failure.code ?? ''] ?? judgeHttp(failure);
}

interface Thrown {
  readonly statusCode?: number;
  readonly code?: string;
  readonly details?: { readonly errorCode?: string };
  readonly response?: { readonly headers?: { get(name: string): string | undefined } };
}

function read(error: unknown): HttpFailure {
  const { statusCode: status, code, details, response } = (error ?? {}) as Thrown;
  const header = (name: string): string | undefined => response?.headers?.get(name);
  if (status === undefined) return systemError(error);
  return {
    status,
    code: header('x-ms-error-code') ?? details?.errorCode ?? code,
    // The SDK appends the whole request.
    message: systemError(error).message.split('\n', 1)[0] ?? '',
    retryAfter: header('retry-after'),
    date: header('date'),
  };
}

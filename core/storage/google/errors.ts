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
import { lacksGoogleCredentials } from '../../util/google-auth.ts';
import { GoogleResponseError } from '../../util/google-rest.ts';

const badKey: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'Google rejects the credentials',
  hint: 'check that the service account key was not deleted, and check the clock',
};

/** By Google's own reasons; other responses by status. */
const byReason: Readonly<Record<string, Verdict>> = {
  rateLimitExceeded: verdicts.throttled,
  userRateLimitExceeded: verdicts.throttled,
  forbidden: {
    kind: 'final',
    code: 'storage-denied',
    why: 'the credentials do not allow this',
    hint: 'see which roles docs/storage/google.md asks for, and which credentials are in use',
  },
  required: {
    kind: 'final',
    code: 'storage-denied',
    why: 'the bucket is not public, and no credentials were given',
    hint: 'sign in with: gcloud auth application-default login',
  },
  authError: badKey,
  accountDisabled: { kind: 'final', code: 'storage-denied' },
  userProjectMissing: { kind: 'final', code: 'storage-denied' },
};

/** The auth library found no usable credentials. */
const noCredentials: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'there are no credentials for Google',
  hint: 'sign in with gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to a service account key file',
};

const noSuchFile: Verdict = {
  ...noCredentials,
  why: 'cannot read the file that GOOGLE_APPLICATION_CREDENTIALS specifies',
  hint: 'set it to a credentials file, or unset it and sign in with gcloud auth application-default login',
};

/** Classifies the error of an attempt, and explains it as a NicheError. */
export function explainGoogleError(error: unknown, action: string): Failure {
  const failure = read(error);
  return toFailure(failure, judge(failure, error), action, error);
}

/** Whether `error` is a response of Google with one of these statuses. */
export function isGoogleError(error: unknown, ...statuses: readonly number[]): boolean {
  return error instanceof GoogleResponseError && statuses.includes(error.status);
}

/**
 * Whether Google refused to create an object because there is one already. To replace an object needs
 * the right to delete it. Credentials without that right may get this refusal instead of 412: Google
 * does not document which check comes first.
 *
 * @see https://cloud.google.com/storage/docs/access-control/iam-json
 */
export function existsAlready(error: unknown): boolean {
  if (isGoogleError(error, 412)) return true;
  return isGoogleError(error, 403) && /\bstorage\.objects\.delete\b/.test((error as Error).message);
}

/** Whether the request may have been carried out although it failed. */
export function mayHaveReachedGoogle(error: unknown): boolean {
  return mayHaveHappened(read(error));
}

/** A missing bucket has the same status as a missing object. */
export const noSuchBucket: Verdict = {
  kind: 'final',
  code: 'storage-unavailable',
  why: 'there is no such bucket',
  hint: 'check its name in the URL, or create it with: niche init --create',
};

function judge(failure: HttpFailure, error: unknown): Verdict {
  if (!(error instanceof GoogleResponseError)) return judgeCredentials(failure, error);
  const { status } = error;
  if ((status === 401 || status === 403) && isSkewed(failure)) return verdicts.skewed;
  if (status === 400 && /md5|crc32c|hash|checksum/i.test(error.message)) return verdicts.damaged;
  const known = byReason[error.reason ?? ''];
  if (known !== undefined) return known;
  if (status === 401) return badKey;
  if (status === 404) return noSuchBucket;
  return judgeHttp(failure);
}

/** Classifies failures before the request: finding the credentials and fetching a token. */
function judgeCredentials(failure: HttpFailure, error: unknown): Verdict {
  const { message, status } = failure;
  if (lacksGoogleCredentials(error)) return noCredentials;
  if (/invalid_grant|invalid_client|invalid jwt/i.test(message)) return badKey;
  if (/ENOENT|no such file|not a file|unable to read/i.test(message)) return noSuchFile;
  if (/DECODER|PEM|private key/i.test(message)) return badKey;
  return status === undefined
    ? judgeHttp(failure)
    : { ...judgeHttp(failure), code: 'storage-denied' };
}

function read(error: unknown): HttpFailure {
  if (error instanceof GoogleResponseError) {
    return {
      status: error.status,
      code: error.reason,
      message: error.message,
      retryAfter: error.headers['retry-after'],
      date: error.headers['date'],
    };
  }
  const { response } = (error ?? {}) as { response?: { status?: number } };
  const { code, message } = systemError(error);
  return { status: response?.status, code, message };
}

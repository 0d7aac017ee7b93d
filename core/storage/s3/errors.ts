import { quote } from '../../errors.ts';
import {
  isSkewed,
  judgeHttp,
  mayHaveHappened,
  systemError,
  toFailure,
  verdicts as common,
  type HttpFailure,
  type Verdict,
} from '../http/failure.ts';
import type { Failure } from '../../util/retry.ts';
import { formatS3Url, type S3Location } from './url.ts';

/** The parts of the SDK's errors that are used. */
interface S3Failure extends HttpFailure {
  /** S3's own code, as `NoSuchKey`; the error's class name without a response. */
  readonly name: string;
  /** From the response's headers. */
  readonly region: string | undefined;
}

const { throttled, damaged, down } = common;

const denied: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'access denied',
  hint: 'see which permissions docs/storage asks for, and which credentials are in use',
};

// The SDK sets its clock by the response, so a retry may succeed.
const skewed: Verdict = { ...common.skewed, kind: 'transient' };

const noCredentials: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'there are no credentials',
  hint: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or specify a profile with ?profile=',
};

/** By S3's own codes, and those of other servers. */
const verdicts: Readonly<Record<string, Verdict>> = {
  SlowDown: throttled,
  Throttling: throttled,
  ThrottlingException: throttled,
  TooManyRequests: throttled,
  TooManyRequestsException: throttled,
  RequestLimitExceeded: throttled,
  ServiceUnavailable: throttled,
  SlowDownRead: throttled,
  SlowDownWrite: throttled,
  InternalError: down,
  RequestTimeout: down,
  OperationAborted: down,
  ConditionalRequestConflict: down,
  BadDigest: damaged,
  InvalidDigest: damaged,
  IncompleteBody: damaged,
  XAmzContentSHA256Mismatch: damaged,
  XAmzContentChecksumMismatch: damaged,
  AccessDenied: denied,
  AllAccessDisabled: { kind: 'final', code: 'storage-denied' },
  InvalidAccessKeyId: {
    kind: 'final',
    code: 'storage-denied',
    why: 'the storage does not know this access key',
    hint: 'check AWS_ACCESS_KEY_ID, or the profile, and the endpoint',
  },
  SignatureDoesNotMatch: {
    kind: 'final',
    code: 'storage-denied',
    why: 'the secret key does not belong to the access key',
    hint: 'check AWS_SECRET_ACCESS_KEY, or the profile',
  },
  ExpiredToken: {
    kind: 'final',
    code: 'storage-denied',
    why: 'the credentials have expired',
    hint: 'get new credentials, for example with: aws sso login',
  },
  InvalidToken: { kind: 'final', code: 'storage-denied', hint: 'check AWS_SESSION_TOKEN' },
  RequestTimeTooSkewed: skewed,
  CredentialsProviderError: noCredentials,
  TokenProviderError: {
    kind: 'final',
    code: 'storage-denied',
    why: 'the sign-in has expired',
    hint: 'sign in again, for example with: aws sso login',
  },
  NoSuchBucket: {
    kind: 'final',
    code: 'storage-unavailable',
    why: 'there is no such bucket',
    hint: 'check its name and region, or create it with: niche init --create',
  },
  InvalidBucketName: { kind: 'final', code: 'invalid-url', why: 'a bucket cannot have this name' },
  // Not `storage-denied` like its status 403, which some readers take for a missing object.
  InvalidObjectState: {
    kind: 'final',
    code: 'storage-unavailable',
    why: 'the object is in an archive storage class',
  },
  NoSuchUpload: {
    kind: 'final',
    code: 'storage-unavailable',
    why: 'the unfinished upload was removed meanwhile',
  },
  NotImplemented: {
    kind: 'final',
    code: 'storage-unavailable',
    hint: 'set provider=b2, wasabi or ceph in the URL if the storage is one of them; conditional=no turns conditional writes off',
  },
  QuotaExceeded: { kind: 'final', code: 'storage-full' },
  XMinioStorageFull: { kind: 'final', code: 'storage-full' },
  XMinioAdminBucketQuotaExceeded: { kind: 'final', code: 'storage-full' },
};

const unexplained: Verdict = {
  kind: 'final',
  code: 'storage-unavailable',
  why: 'the storage rejects this request without a reason',
  hint: 'check the endpoint and the region in the URL',
};

const wrongRegion =
  /^(?:PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException|TemporaryRedirect)$/;

/** Classifies the error of an attempt, and explains it as a NicheError. */
export function explainS3Error(error: unknown, action: string, location: S3Location): Failure {
  const failure = read(error);
  return toFailure(failure, judge(failure, location), action, error);
}

/** Whether `error` is a response of S3 with one of these codes or statuses. */
export function isS3Error(error: unknown, ...which: readonly (string | number)[]): boolean {
  const { name, status } = read(error);
  return which.includes(name) || (status !== undefined && which.includes(status));
}

/** Whether a write's condition did not hold. The code may come in the body of a response with status 200. */
export function isUnmet(error: unknown): boolean {
  return isS3Error(error, 'PreconditionFailed', 412);
}

/** Whether the request may have been carried out although it failed. */
export function mayHaveReachedS3(error: unknown): boolean {
  return mayHaveHappened(read(error));
}

function judge(failure: S3Failure, location: S3Location): Verdict {
  const { name, status, message } = failure;
  const region = failure.region ?? /expecting ['"]([a-z0-9-]+)['"]/.exec(message)?.[1];
  if (wrongRegion.test(name) || status === 301 || status === 307) {
    const requested = location.region ?? 'the default one';
    return {
      kind: 'final',
      code: 'storage-unavailable',
      why: `the bucket is not in the region ${requested}${region === undefined ? '' : ` but in ${region}`}`,
      hint:
        region === undefined
          ? 'write the region that it is in, as ?region=eu-central-1'
          : `write ${formatS3Url({ ...location, region })}`,
    };
  }
  if (name === 'CredentialsProviderError' && location.profile !== undefined) {
    return {
      ...noCredentials,
      why: `the profile ${quote(location.profile)} has no credentials`,
      hint: `see ~/.aws/config, or create it with: aws configure --profile ${location.profile}`,
    };
  }
  const known = verdicts[name];
  if (known !== undefined) return known;
  // The response to a HEAD has no code, but a date.
  if (status === 403) return isSkewed(failure) ? skewed : denied;
  // Two writers of one object conflict.
  if (status === 409) return down;
  // The response to a HEAD has no body to explain it.
  if (status === 400 && isNameless(name)) return unexplained;
  if (status === undefined && /region is missing/i.test(message)) {
    return {
      kind: 'final',
      code: 'invalid-url',
      why: 'no region is specified',
      hint: `write s3://${location.bucket}?region=…, or set AWS_REGION`,
    };
  }
  return judgeHttp(failure);
}

/** Whether the name is the SDK's substitute for a missing code. */
function isNameless(name: string): boolean {
  return /^(?:Unknown|UnknownError|Error)?$/.test(name);
}

function read(error: unknown): S3Failure {
  const thrown = (error ?? {}) as {
    readonly name?: unknown;
    readonly $metadata?: { readonly httpStatusCode?: number };
    readonly $response?: {
      readonly statusCode?: number;
      readonly headers?: Readonly<Record<string, string>>;
    };
  };
  const { code, message } = systemError(error);
  const name = typeof thrown.name === 'string' ? thrown.name : '';
  const status = thrown.$metadata?.httpStatusCode ?? thrown.$response?.statusCode;
  const headers = thrown.$response?.headers ?? {};
  return {
    name,
    status,
    code: status === undefined ? code : isNameless(name) ? undefined : name,
    message: message === 'UnknownError' ? '' : message,
    region: headers['x-amz-bucket-region'],
    retryAfter: headers['retry-after'],
    date: headers['date'],
  };
}

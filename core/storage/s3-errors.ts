import { messageOf, NicheError, quote } from '../errors.ts';
import { down, judgeConnection, type Verdict } from './connection-failure.ts';
import { isSkewed, verdicts as verdictsOfHttp } from './http-failure.ts';
import type { Failure } from './pace.ts';
import { formatS3Url, type S3Location } from './s3-url.ts';

/** What the SDK throws, as far as it is looked at. */
interface S3Failure {
  /** S3's own code, as `NoSuchKey`; a class's name where no server answered. */
  readonly name: string;
  /** The operating system's, as `ECONNRESET`. */
  readonly code: string | undefined;
  /** The answer's, undefined where none came. */
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly message: string;
}

const throttled: Verdict = {
  kind: 'throttled',
  code: 'storage-unavailable',
  why: 'the storage asks for fewer requests',
  hint: 'try again later; what was stored is kept',
};
const damaged: Verdict = {
  kind: 'transient',
  code: 'storage-integrity',
  why: 'the bytes that arrived are not those that were declared',
};

const denied: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'access denied',
  hint: 'see which permissions docs/storage asks for, and which credentials are in use',
};

// The SDK has set its clock by the answer, so the next attempt may be good.
const skewed: Verdict = { ...verdictsOfHttp.skewed, kind: 'transient' };

const noCredentials: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'there are no credentials',
  hint: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with ?profile=',
};

/** By S3's own codes, those of other servers included. */
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
    hint: 'check AWS_ACCESS_KEY_ID, or the profile, and that the endpoint is the right one',
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
    hint: 'get new ones, as with: aws sso login',
  },
  InvalidToken: { kind: 'final', code: 'storage-denied', hint: 'check AWS_SESSION_TOKEN' },
  RequestTimeTooSkewed: skewed,
  CredentialsProviderError: noCredentials,
  TokenProviderError: {
    kind: 'final',
    code: 'storage-denied',
    why: 'the sign-on has expired',
    hint: 'sign on again, as with: aws sso login',
  },
  NoSuchBucket: {
    kind: 'final',
    code: 'storage-unavailable',
    why: 'there is no such bucket',
    hint: 'check its name and region; niche init --create makes one',
  },
  InvalidBucketName: { kind: 'final', code: 'invalid-url', why: 'a bucket cannot have this name' },
  NoSuchUpload: {
    kind: 'final',
    code: 'storage-unavailable',
    why: 'the unfinished upload was removed meanwhile',
  },
  NotImplemented: {
    kind: 'final',
    code: 'storage-unavailable',
    hint: 'if the storage is one of them, say provider=b2, wasabi or ceph in the URL; conditional=no turns conditional writes off',
  },
  QuotaExceeded: { kind: 'final', code: 'storage-full' },
  XMinioStorageFull: { kind: 'final', code: 'storage-full' },
  XMinioAdminBucketQuotaExceeded: { kind: 'final', code: 'storage-full' },
};

const unexplained: Verdict = {
  kind: 'final',
  code: 'storage-unavailable',
  why: 'the storage does not take this request, and says no more',
  hint: 'check the endpoint and the region in the URL',
};

/** By the answer's status, where its code says nothing. */
const byStatus: Readonly<Record<number, Verdict>> = {
  401: { kind: 'final', code: 'storage-denied' },
  403: denied,
  408: down,
  409: down,
  429: throttled,
  500: down,
  502: down,
  503: throttled,
  504: down,
  507: { kind: 'final', code: 'storage-full' },
};

const wrongRegion =
  /^(?:PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException|TemporaryRedirect)$/;
/** Judges what an attempt threw; the error tells what failed, why, and what to do. */
export function explainS3Error(error: unknown, action: string, location: S3Location): Failure {
  const failure = read(error);
  const verdict = judge(failure, location);
  const said =
    failure.message === '' || failure.message === 'UnknownError' ? undefined : failure.message;
  const what = [
    verdict.why ?? (said === undefined ? undefined : oneLine(said)),
    label(failure),
  ].filter((part) => part !== undefined && part !== '');
  const retryAfter = Number(failure.headers['retry-after']);
  return {
    kind: verdict.kind,
    retryAfterMs: Number.isFinite(retryAfter) ? retryAfter * 1000 : undefined,
    error: new NicheError(verdict.code, `${action} failed: ${what.join(' ')}`, {
      cause: error,
      ...(verdict.hint === undefined ? {} : { hint: verdict.hint }),
    }),
  };
}

/** Whether `error` is S3's answer with one of these codes, or with one of these statuses. */
export function isS3Error(error: unknown, ...which: readonly (string | number)[]): boolean {
  const { name, status } = read(error);
  return which.includes(name) || (status !== undefined && which.includes(status));
}

/** Whether the request may have been carried out although it failed: no answer, or no sure one. */
export function mayHaveHappened(error: unknown): boolean {
  const { status } = read(error);
  return status === undefined || status >= 500 || status === 408;
}

function judge(failure: S3Failure, location: S3Location): Verdict {
  const { name, status } = failure;
  const region = regionIn(failure);
  if (wrongRegion.test(name) || status === 301 || status === 307) {
    const asked = location.region ?? 'the default one';
    return {
      kind: 'final',
      code: 'storage-unavailable',
      why: `the bucket is not in the region ${asked}${region === undefined ? '' : ` but in ${region}`}`,
      hint:
        region === undefined
          ? 'write the region that it is in, as ?region=eu-central-1'
          : `write ${formatS3Url({ ...location, region })}`,
    };
  }
  if (name === 'CredentialsProviderError' && location.profile !== undefined) {
    return {
      ...noCredentials,
      why: `the profile ${quote(location.profile)} gives no credentials`,
      hint: `see ~/.aws/config, or make it with: aws configure --profile ${location.profile}`,
    };
  }
  const known = verdicts[name];
  if (known !== undefined) return known;
  // A HEAD's answer says no more than the time.
  if (status === 403 && isSkewed({ date: failure.headers['date'] })) return skewed;
  if (status !== undefined && byStatus[status] !== undefined) return byStatus[status];
  // As to a HEAD, whose answer has no body.
  if (status === 400 && /^(?:Unknown(?:Error)?)?$/.test(name)) return unexplained;
  // An answer that makes no sense, as a proxy's page, or one that was cut.
  if (status !== undefined) {
    return status < 300 || status >= 500 ? down : { kind: 'final', code: 'storage-unavailable' };
  }
  if (/region is missing/i.test(failure.message)) {
    return {
      kind: 'final',
      code: 'invalid-url',
      why: 'no region is named',
      hint: `write s3://${location.bucket}?region=…, or set AWS_REGION`,
    };
  }
  return judgeConnection(failure);
}

function regionIn({ headers, message }: S3Failure): string | undefined {
  return (
    headers['x-amz-bucket-region'] ??
    /expecting ['"]([a-z0-9-]+)['"]/.exec(message)?.[1] ??
    undefined
  );
}

/** `(AccessDenied, 403)`, `(ECONNREFUSED)`. */
function label({ name, code, status }: S3Failure): string {
  const codes = [status === undefined ? code : name, status].filter(
    (part) =>
      part !== undefined && part !== 'Error' && part !== 'Unknown' && part !== 'UnknownError',
  );
  return codes.length === 0 ? '' : `(${codes.join(', ')})`;
}

function oneLine(text: string): string {
  return /[\r\n]/.test(text) || text.length > 200 ? quote(text) : text;
}

function read(error: unknown): S3Failure {
  const thrown = (error ?? {}) as {
    readonly name?: unknown;
    readonly code?: unknown;
    readonly Code?: unknown;
    readonly $metadata?: { readonly httpStatusCode?: number };
    readonly $response?: {
      readonly statusCode?: number;
      readonly headers?: Readonly<Record<string, string>>;
    };
    readonly errors?: readonly unknown[];
  };
  // Of the addresses of a name, each failed in its own way.
  const first = Array.isArray(thrown.errors) ? (thrown.errors[0] as { code?: unknown }) : undefined;
  const code = thrown.code ?? first?.code;
  return {
    name: typeof thrown.name === 'string' ? thrown.name : '',
    code: typeof code === 'string' ? code : undefined,
    status: thrown.$metadata?.httpStatusCode ?? thrown.$response?.statusCode,
    headers: thrown.$response?.headers ?? {},
    message: messageOf(error),
  };
}

import { messageOf, NicheError, oneLine } from '../../errors.ts';
import type { NicheErrorCode } from '../../errors.ts';
import { retryAfterMs } from '../../util/retry.ts';
import type { Failure } from '../../util/retry.ts';

/** A failed request, as far as a driver's error describes it. */
export interface HttpFailure {
  /** The status of the response; undefined where none came. */
  readonly status?: number | undefined;
  /** The storage's own code, such as `BlobNotFound`, or the operating system's, such as `ECONNRESET`. */
  readonly code?: string | undefined;
  readonly message: string;
  /** The response's `Retry-After`. */
  readonly retryAfter?: string | undefined;
  /** The response's `Date`. */
  readonly date?: string | undefined;
}

/** What a failure means. */
export interface Verdict {
  readonly kind: Failure['kind'];
  readonly code: NicheErrorCode;
  /** The reason, for people. @default the message of the storage or of the system */
  readonly why?: string;
  readonly hint?: string;
}

const down = { kind: 'transient', code: 'storage-unavailable' } as const satisfies Verdict;

/** Verdicts that every storage behind HTTP shares. */
export const verdicts = {
  throttled: {
    kind: 'throttled',
    code: 'storage-unavailable',
    why: 'the storage is throttling requests',
    hint: 'try again later; everything stored so far is kept',
  },
  down,
  damaged: {
    kind: 'transient',
    code: 'storage-integrity',
    why: 'the storage received other bytes than were declared',
  },
  full: { kind: 'final', code: 'storage-full' },
  skewed: {
    kind: 'final',
    code: 'storage-denied',
    why: 'this machine’s clock differs too much from the storage’s clock',
    hint: 'set the clock',
  },
} as const satisfies Record<string, Verdict>;

/** Storages refuse a request whose signature is older or newer than this, in milliseconds. */
const maxSkewMs = 15 * 60_000;

/** Judges a failure by its status, or by the system's code where no response came. */
export function judgeHttp(failure: HttpFailure): Verdict {
  const { status } = failure;
  if (status === undefined) return judgeConnection(failure);
  if (status === 429 || status === 503) return verdicts.throttled;
  if (status === 407) return proxyLogin;
  if (status === 507) return verdicts.full;
  if (status === 401 || status === 403) return { kind: 'final', code: 'storage-denied' };
  // A response that makes no sense, such as a proxy's page, may be right the next time.
  if (status === 408 || status >= 500 || status < 300) return down;
  return { kind: 'final', code: 'storage-unavailable' };
}

/** A misconfiguration: every retry would fail the same way. */
function misconfigured(why: string, hint: string): Verdict {
  return { kind: 'final', code: 'storage-unavailable', why, hint };
}

const noTls = misconfigured(
  'that server does not speak TLS',
  'if it is a plain HTTP server, write http:// instead of https://',
);

const proxyLogin: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'the proxy requires a login',
  hint: 'put it into the URL of the proxy: https_proxy=http://USER:PASSWORD@HOST:PORT',
};

const proxyDenial: Verdict = {
  kind: 'final',
  code: 'storage-denied',
  why: 'the proxy does not allow this host',
  hint: 'add the host to no_proxy to connect to it directly',
};

/** By the system's code, or by the code of Node's TLS. The first match wins. */
const connectionVerdicts: readonly (readonly [code: RegExp, verdict: Verdict])[] = [
  [
    /^CERT_HAS_EXPIRED$/,
    misconfigured(
      'the server’s certificate has expired',
      'renew the certificate; if it is still valid, set this machine’s clock',
    ),
  ],
  [
    /^CERT_NOT_YET_VALID$/,
    misconfigured('the server’s certificate is not valid yet', 'check this machine’s clock'),
  ],
  [
    /^(?:ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH)$/,
    misconfigured(
      'the server’s certificate is for another host name',
      'use a host name that the certificate contains',
    ),
  ],
  [
    /^(?:DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|CERT_)/,
    misconfigured(
      'this machine does not trust the authority of the server’s certificate',
      'for an authority of your own, set SSL_CERT_FILE to a file with all authorities, or NODE_EXTRA_CA_CERTS to one with yours; Nix reads NIX_SSL_CERT_FILE',
    ),
  ],
  [/^(?:EPROTO|ERR_SSL|ERR_TLS)/, noTls],
  [/^ENOTFOUND$/, { ...down, hint: 'check the host name in the URL' }],
  [/^EAI_AGAIN$/, { ...down, hint: 'check this machine’s network and DNS' }],
  [/^ECONNREFUSED$/, { ...down, hint: 'check that the server is running, and the port' }],
  [
    /^(?:ECONNRESET|EPIPE|UND_ERR_SOCKET)$/,
    {
      ...down,
      why: 'the server closed the connection',
      hint: 'try again later; for a server that speaks TLS, write https://',
    },
  ],
];

/** Judges a request without a response. */
function judgeConnection({ code = '', message }: HttpFailure): Verdict {
  // Some clients drop the code.
  if (code === 'ERR_PROXY_TUNNEL' && / 407\b/.test(message)) return proxyLogin;
  if (code === 'ERR_PROXY_TUNNEL' && / 403\b/.test(message)) return proxyDenial;
  if (/wrong version number|packet length too long/i.test(message)) return noTls;
  return connectionVerdicts.find(([pattern]) => pattern.test(code))?.[1] ?? down;
}

/** Whether the response's `Date` shows that the clocks differ so much that the storage refuses. */
export function isSkewed({ date }: Pick<HttpFailure, 'date'>): boolean {
  const theirs = Date.parse(date ?? '');
  return Number.isFinite(theirs) && Math.abs(theirs - Date.now()) > maxSkewMs;
}

/** Whether the storage may have carried out the failed request: no response, or an unclear one. */
export function mayHaveHappened({ status }: HttpFailure): boolean {
  return status === undefined || status < 300 || status >= 500 || status === 408;
}

/**
 * Returns the failure as the Bucket contract describes it.
 *
 * @param action what failed, on what: `reading "nar/…" in azure://…`
 * @param cause the driver's own error
 */
export function toFailure(
  failure: HttpFailure,
  verdict: Verdict,
  action: string,
  cause: unknown,
): Failure {
  const codes = [failure.code, failure.status].filter((part) => part !== undefined && part !== '');
  const label = codes.length === 0 ? '' : ` (${codes.join(', ')})`;
  const why = verdict.why ?? oneLine(failure.message || 'the storage gave no reason');
  return {
    kind: verdict.kind,
    retryAfterMs: retryAfterMs(failure.retryAfter),
    error: new NicheError(verdict.code, `${action} failed: ${why}${label}`, {
      cause,
      ...(verdict.hint === undefined ? {} : { hint: verdict.hint }),
    }),
  };
}

/** Returns the system's error of a failed connection: of a host with many addresses, the first one. */
export function systemError(error: unknown): { code: string | undefined; message: string } {
  const thrown = (error ?? {}) as { code?: unknown; errors?: readonly unknown[]; cause?: unknown };
  const first = Array.isArray(thrown.errors) ? (thrown.errors[0] as unknown) : undefined;
  if (first !== undefined) return systemError(first);
  const code = typeof thrown.code === 'string' ? thrown.code : undefined;
  return { code, message: messageOf(error) };
}

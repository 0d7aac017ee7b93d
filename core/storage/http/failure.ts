import { messageOf, NicheError, quote } from '../../errors.ts';
import { down, judgeConnection, type Verdict } from './connection-failure.ts';
import type { Failure } from '../../util/retry.ts';

/** What became of a request, as far as a driver's errors tell. */
export interface HttpFailure {
  /** The answer's; undefined where none came. */
  readonly status?: number | undefined;
  /** The storage's own code, as `BlobNotFound`; or the operating system's, as `ECONNRESET`. */
  readonly code?: string | undefined;
  readonly message: string;
  /** Of the answer. */
  readonly retryAfter?: string | undefined;
  /** The answer's `Date`. */
  readonly date?: string | undefined;
}

/** What goes for every storage behind HTTP. */
export const verdicts = {
  throttled: {
    kind: 'throttled',
    code: 'storage-unavailable',
    why: 'the storage asks for fewer requests',
    hint: 'try again later; what was stored is kept',
  },
  down,
  damaged: {
    kind: 'transient',
    code: 'storage-integrity',
    why: 'the bytes that arrived are not those that were declared',
  },
  full: { kind: 'final', code: 'storage-full' },
  skewed: {
    kind: 'final',
    code: 'storage-denied',
    why: 'this machine’s clock differs too much from the storage’s',
    hint: 'set the clock',
  },
} as const satisfies Record<string, Verdict>;

/** A signature is refused when its time is off by more than this, in milliseconds. */
const maxSkewMs = 15 * 60_000;

/** Judges by the status, or by the system's code where no answer came. */
export function judgeHttp(failure: HttpFailure): Verdict {
  const { status } = failure;
  if (status === undefined) return judgeConnection(failure);
  if (status === 429 || status === 503) return verdicts.throttled;
  if (status === 507) return verdicts.full;
  if (status === 401 || status === 403) return { kind: 'final', code: 'storage-denied' };
  // An answer that makes no sense, as a proxy's page, may be right the next time.
  if (status === 408 || status >= 500 || status < 300) return verdicts.down;
  return { kind: 'final', code: 'storage-unavailable' };
}

/** Whether the storage's clock, as its answer shows it, is so far from ours that it refuses. */
export function isSkewed({ date }: Pick<HttpFailure, 'date'>): boolean {
  const theirs = Date.parse(date ?? '');
  return Number.isFinite(theirs) && Math.abs(theirs - Date.now()) > maxSkewMs;
}

/** Whether the request may have been carried out although it failed: no answer, or no sure one. */
export function mayHaveHappened({ status }: HttpFailure): boolean {
  return status === undefined || status < 300 || status >= 500 || status === 408;
}

/**
 * The failure in the words of the Bucket contract.
 *
 * @param action what failed, on what: `reading "nar/…" in azure://…`
 */
export function toFailure(
  failure: HttpFailure,
  verdict: Verdict,
  action: string,
  cause: unknown,
): Failure {
  const codes = [failure.code, failure.status].filter((part) => part !== undefined && part !== '');
  const label = codes.length === 0 ? '' : ` (${codes.join(', ')})`;
  const said = verdict.why ?? oneLine(failure.message);
  return {
    kind: verdict.kind,
    retryAfterMs: retryAfterMs(failure.retryAfter),
    error: new NicheError(verdict.code, `${action} failed: ${said}${label}`, {
      cause,
      ...(verdict.hint === undefined ? {} : { hint: verdict.hint }),
    }),
  };
}

/** What the system said of a connection that failed, whichever of a host's addresses it was. */
export function systemError(error: unknown): { code: string | undefined; message: string } {
  const thrown = (error ?? {}) as { code?: unknown; errors?: readonly unknown[]; cause?: unknown };
  const first = Array.isArray(thrown.errors) ? (thrown.errors[0] as unknown) : undefined;
  if (first !== undefined) return systemError(first);
  const code = typeof thrown.code === 'string' ? thrown.code : undefined;
  return { code, message: messageOf(error) };
}

/** `Retry-After` in seconds, or as a date. */
function retryAfterMs(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const seconds = Number(text);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

function oneLine(text: string): string {
  if (text === '') return 'the storage did not say why';
  return /[\r\n]/.test(text) || text.length > 200 ? quote(text) : text;
}

import type { NicheErrorCode } from '../../errors.ts';
import type { Failure } from '../../util/retry.ts';

/** What a failure means. */
export interface Verdict {
  readonly kind: Failure['kind'];
  readonly code: NicheErrorCode;
  /** In words; else what the storage or the system says. */
  readonly why?: string;
  readonly hint?: string;
}

export const down = { kind: 'transient', code: 'storage-unavailable' } as const satisfies Verdict;

/** What goes wrong the same way however often it is tried. */
function wrong(why: string, hint: string): Verdict {
  return { kind: 'final', code: 'storage-unavailable', why, hint };
}

const noTls = wrong(
  'that server does not speak TLS',
  'if it is meant to be without, write http:// in place of https://',
);

/** By the system's code, or by that of Node's TLS. */
const byCode: readonly (readonly [code: RegExp, verdict: Verdict])[] = [
  [
    /^CERT_HAS_EXPIRED$/,
    wrong(
      'the server’s certificate has expired',
      'have it renewed; if it is good yet, this machine’s clock is wrong',
    ),
  ],
  [
    /^CERT_NOT_YET_VALID$/,
    wrong('the server’s certificate is not valid yet', 'see whether this machine’s clock is right'),
  ],
  [
    /^(?:ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH)$/,
    wrong(
      'the server’s certificate is for another name',
      'name the server in the URL as its certificate does',
    ),
  ],
  [
    /^(?:DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|CERT_)/,
    wrong(
      'the server’s certificate is of no authority that this machine trusts',
      'if it is one of your own, set NODE_EXTRA_CA_CERTS to the authority’s file, or NODE_USE_SYSTEM_CA=1 where the system has it; Nix’s setting for that is ssl-cert-file',
    ),
  ],
  [/^(?:EPROTO|ERR_SSL|ERR_TLS)/, noTls],
  [/^ENOTFOUND$/, { ...down, hint: 'check the name in the URL' }],
  [/^EAI_AGAIN$/, { ...down, hint: 'is this machine online, and its resolver at work?' }],
  [/^ECONNREFUSED$/, { ...down, hint: 'is the server running, and the port right?' }],
  [
    /^(?:ECONNRESET|EPIPE|UND_ERR_SOCKET)$/,
    {
      ...down,
      why: 'the server broke the connection off',
      hint: 'try again later; a server that speaks TLS is named with https://',
    },
  ],
];

/** Judges a request that nobody answered. */
export function judgeConnection({
  code = '',
  message,
}: {
  readonly code?: string | undefined;
  readonly message: string;
}): Verdict {
  // Some clients hand on no code.
  if (/wrong version number|packet length too long/i.test(message)) return noTls;
  return byCode.find(([pattern]) => pattern.test(code))?.[1] ?? down;
}

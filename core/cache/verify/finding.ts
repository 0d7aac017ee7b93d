import type { NicheErrorCode } from '../../errors.ts';

/**
 * `wrong`: the cache breaks a promise; `unchecked`: nothing could be said, for a reason outside the
 * cache's contents; `warning`: nothing that a reader depends on.
 */
export type FindingKind = 'wrong' | 'unchecked' | 'warning';

/** What verifying a cache may find, besides the codes of errors. */
export type FindingCode =
  // the cache
  | 'missing-cache-info'
  | 'wrong-store-dir'
  // a narinfo
  | 'missing-narinfo'
  | 'misplaced-narinfo'
  | 'wrong-store-path'
  | 'blocked-but-visible'
  // its signatures
  | 'unsigned'
  | 'bad-signature'
  | 'unknown-signature'
  | 'missing-audit'
  | 'malformed-audit'
  // its NAR
  | 'bad-url'
  | 'unsupported-compression'
  | 'damaged-file'
  | 'file-size-mismatch'
  | 'file-hash-mismatch'
  | 'missing-file-hash'
  | 'missing-listing'
  | 'wrong-listing'
  // its references
  | 'missing-reference'
  | NicheErrorCode;

export interface Finding {
  readonly kind: FindingKind;
  /** The store path; the object's key where no path is known. */
  readonly subject: string;
  readonly code: FindingCode;
  /** What was expected and what came. */
  readonly message: string;
}

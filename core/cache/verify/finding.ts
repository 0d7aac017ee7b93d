import type { NicheErrorCode } from '../../errors.ts';

/**
 * `wrong`: the cache is inconsistent; `unchecked`: a check was impossible for a reason outside the
 * cache's contents; `warning`: readers do not depend on it; `note`: nothing is wrong.
 */
export type FindingKind = 'wrong' | 'unchecked' | 'warning' | 'note';

/** Codes of findings, besides error codes. */
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
  | 'self-references'
  | 'missing-listing'
  | 'wrong-listing'
  // its references
  | 'missing-reference'
  | NicheErrorCode;

export interface Finding {
  readonly kind: FindingKind;
  /** The store path, or the object's key where no path is known. */
  readonly subject: string;
  readonly code: FindingCode;
  /** What was expected and what was found. */
  readonly message: string;
}

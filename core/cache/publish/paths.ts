import type { PathInfo } from '../../nix/path-info.ts';
import type { Origin, Provenance } from '../audit.ts';
import type { StoredNar } from '../nar/store.ts';
import type { Attachments } from './attachments.ts';
import type { UpstreamCheck } from './conflicts.ts';
import type { PathReport } from './report.ts';

/** First, a path is staged, as its batch's manifest claims it. */
export interface StagedPath {
  readonly claim: PathInfo;
  readonly upload: string;
  readonly origin: Origin | null;
  readonly openNar: () => AsyncIterable<Uint8Array>;
  readonly readLog: () => Promise<Uint8Array | null>;
}

/** Then its NAR is checked and stored. */
export interface IngestedPath {
  readonly candidate: Candidate;
  readonly attachments: Attachments;
  readonly upstream: UpstreamCheck;
}

/** All that the narinfo of an ingested path needs, except the cache's signatures. */
export interface Candidate {
  /** Its signatures are those of the client's that an upstream's key verifies. */
  readonly info: PathInfo;
  readonly nar: StoredNar;
  readonly unclaimed: { readonly count: number; readonly first: readonly string[] };
  readonly upload: string;
  readonly origin: Origin | null;
  /** Of a path that was in the cache already, without its signature. */
  readonly provenance?: Provenance | undefined;
}

/** At last it is published, rejected, or parked until its references are published. */
export interface FinishedPath extends PathReport {
  readonly info: PathInfo;
  /**
   * Deletes the pending record of a path that no longer waits. Call it after the receipt is written:
   * until then, only the pending record leads to a receipt after a crash.
   */
  readonly unpark: () => Promise<void>;
}

/** The `unpark` of a path that has no pending record, or whose record stays. */
export const nothingToUnpark = (): Promise<void> => Promise.resolve();

/** Returns whether readers can get the path. */
export function isPublished({ outcome: { status } }: PathReport): boolean {
  return status === 'published' || status === 'exists';
}

import { isFinal } from '../../core/cache/receipts/receipts.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import type { LocalRecord } from './local-record.ts';

/** Keeps for the next run what this upload learns about paths. */
export interface OutcomeJournal {
  note(path: string, outcome: Outcome): void;
  /** Writes the noted outcomes now, instead of at the end of this turn of the event loop. */
  flush(): void;
  /** Lets the next run stage `paths` again. */
  forgetStaged(paths: readonly string[]): void;
}

/** @param infoOf the info of a path of this upload */
export function createOutcomeJournal(
  { known, journal }: Pick<LocalRecord, 'known' | 'journal'>,
  infoOf: (path: string) => PathInfo | undefined,
): OutcomeJournal {
  let noted: { readonly path: string; readonly outcome: Outcome }[] = [];

  const infosOf = (paths: readonly string[]): PathInfo[] =>
    paths.flatMap((path) => infoOf(path) ?? []);

  function flush(): void {
    const outcomes = noted;
    noted = [];
    // A publisher missed these references: an earlier record that the cache has them is wrong.
    known.forgetPaths(outcomes.flatMap(({ outcome }) => outcome.missing ?? []));
    const final = outcomes.filter(({ outcome }) => isFinal(outcome.status));
    journal.forgetStaged(infosOf(final.map(({ path }) => path)));
    const present = final.filter(({ outcome }) => outcome.status !== 'rejected');
    known.rememberPaths(infosOf(present.map(({ path }) => path)), 'present');
  }

  return {
    note(path, outcome) {
      // Each flush takes a transaction, so outcomes that come together share one.
      if (noted.length === 0) setImmediate(flush);
      noted.push({ path, outcome });
    },
    flush,
    forgetStaged(paths) {
      journal.forgetStaged(infosOf(paths));
    },
  };
}

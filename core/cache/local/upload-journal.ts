import type { PathInfo } from '../../nix/path-info.ts';
import { pathDigest } from './known-paths.ts';
import type { BatchId } from '../layout.ts';
import type { LocalDatabase } from './database.ts';

/** An unfinished upload of one large NAR. */
export interface UnfinishedUpload {
  readonly id: BatchId;
  /** The token for `Bucket.resumeUpload`. */
  readonly token: string;
}

export interface JournalEntry {
  readonly batch: BatchId;
  /** Whether the manifest of the batch is known to be stored. */
  readonly isConfirmed: boolean;
}

/** Records staged paths without a receipt, so that the next run can resume after a killed one. */
export interface UploadJournal {
  /** Returns the batch in which the path was staged; null when it was not, or long ago. */
  findStaged(info: PathInfo): JournalEntry | null;
  /** @param isConfirmed false before the manifest is stored, true afterwards */
  recordStaged(id: BatchId, infos: readonly PathInfo[], isConfirmed: boolean): void;
  /** Forgets staged paths that have a receipt, or whose record turned out to be outdated. */
  forgetStaged(infos: readonly PathInfo[]): void;
  /** Takes over the unfinished upload of the path's NAR from a process that has ended. */
  claimUnfinished(info: PathInfo): UnfinishedUpload | null;
  recordUnfinished(info: PathInfo, upload: UnfinishedUpload): void;
  forgetUnfinished(info: PathInfo): void;
}

export interface JournalOptions {
  /** Identifies this process. */
  readonly self: string;
  /** Returns whether the process with this identity has certainly ended. */
  readonly hasEnded: (owner: string) => boolean;
  /** @default the real clock */
  readonly now?: () => number;
}

/** Below the ages, in milliseconds, at which sweeps delete: unfinished uploads a day, batches a week. */
const maxUnfinishedMs = 20 * 60 * 60 * 1000;
const maxStagedMs = 6 * 24 * 60 * 60 * 1000;

export function createUploadJournal(
  database: LocalDatabase,
  { self, hasEnded, now = Date.now }: JournalOptions,
): UploadJournal {
  database.run('DELETE FROM staged WHERE at < ?', now() - maxStagedMs);
  database.run('DELETE FROM unfinished WHERE at < ?', now() - maxUnfinishedMs);
  return {
    findStaged(info) {
      const sql = 'SELECT upload, batch, confirmed FROM staged WHERE digest = ?';
      const [row] = database.all(sql, pathDigest(info));
      if (!row) return null;
      const batch = { upload: String(row['upload']), batch: Number(row['batch']) };
      return { batch, isConfirmed: row['confirmed'] === 1 };
    },
    recordStaged({ upload, batch }, infos, isConfirmed) {
      database.transaction(() => {
        for (const info of infos) {
          database.run(
            'INSERT OR REPLACE INTO staged VALUES (?, ?, ?, ?, ?, ?)',
            ...[pathDigest(info), info.path, upload, batch, isConfirmed ? 1 : 0, now()],
          );
        }
      });
    },
    forgetStaged(infos) {
      if (infos.length === 0) return;
      database.transaction(() => {
        for (const info of infos)
          database.run('DELETE FROM staged WHERE digest = ?', pathDigest(info));
      });
    },
    claimUnfinished(info) {
      const digest = pathDigest(info);
      const [row] = database.all(
        'SELECT upload, batch, token, owner FROM unfinished WHERE digest = ?',
        digest,
      );
      if (!row || !hasEnded(String(row['owner']))) return null;
      // Two processes may both have read the row; only one of them changes it.
      const claimed = database.run(
        'UPDATE unfinished SET owner = ? WHERE digest = ? AND owner = ?',
        ...[self, digest, row['owner'] as string],
      );
      if (claimed !== 1) return null;
      const id = { upload: String(row['upload']), batch: Number(row['batch']) };
      return { id, token: String(row['token']) };
    },
    recordUnfinished(info, { id, token }) {
      database.run(
        'INSERT OR REPLACE INTO unfinished VALUES (?, ?, ?, ?, ?, ?)',
        ...[pathDigest(info), id.upload, id.batch, token, self, now()],
      );
    },
    forgetUnfinished(info) {
      database.run('DELETE FROM unfinished WHERE digest = ? AND owner = ?', pathDigest(info), self);
    },
  };
}

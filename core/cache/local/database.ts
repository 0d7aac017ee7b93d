import { rmSync } from 'node:fs';
import path from 'node:path';
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite';

import { makeFolders } from '../../util/folders.ts';

/**
 * A SQLite file that caches facts about one binary cache. Nothing depends on it: a damaged file is
 * deleted and created again, and where no file can be written, an in-memory database replaces it.
 */
export interface LocalDatabase {
  /** Returns all rows. After a failure, returns none. */
  all(sql: string, ...values: SQLInputValue[]): Record<string, SQLOutputValue>[];
  /** Returns the number of changed rows. After a failure, returns 0. */
  run(sql: string, ...values: SQLInputValue[]): number;
  /** Runs `work` in one transaction. */
  transaction(work: () => void): void;
  close(): void;
}

/** Version of the tables below; a file of another version is deleted. */
const schemaVersion = 1;

const schema = `
  CREATE TABLE known (digest TEXT PRIMARY KEY, path TEXT NOT NULL, location TEXT NOT NULL,
    at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX known_path ON known (path);
  CREATE TABLE staged (digest TEXT PRIMARY KEY, path TEXT NOT NULL, upload TEXT NOT NULL,
    batch INTEGER NOT NULL, confirmed INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE unfinished (digest TEXT PRIMARY KEY, upload TEXT NOT NULL, batch INTEGER NOT NULL,
    token TEXT NOT NULL, owner TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = ${schemaVersion};
`;

/** How long to wait for a write of another process, in milliseconds. */
const busyTimeoutMs = 2_000;

/** @param file null for an in-memory database */
export async function openLocalDatabase(file: string | null): Promise<LocalDatabase> {
  // Loaded on first use: most commands do not need it.
  const sqlite = await import('node:sqlite');
  const statements = new Map<string, StatementSync>();
  let database = open();

  function open(): DatabaseSync {
    if (file === null) return prepared(new sqlite.DatabaseSync(':memory:'));
    try {
      makeFolders(path.dirname(file), 0o700);
      return openFile(file);
    } catch (error) {
      if (!isDamage(error)) return prepared(new sqlite.DatabaseSync(':memory:'));
    }
    try {
      deleteFiles(file);
      return openFile(file);
    } catch {
      return prepared(new sqlite.DatabaseSync(':memory:'));
    }
  }

  function openFile(name: string): DatabaseSync {
    const opened = new sqlite.DatabaseSync(name, { timeout: busyTimeoutMs });
    try {
      return prepared(opened);
    } catch (error) {
      opened.close();
      throw error;
    }
  }

  /** Runs `work`. A failure costs requests later, and must never fail an upload. */
  function attempt<T>(work: () => T, otherwise: T): T {
    try {
      return work();
    } catch (error) {
      if (isDamage(error)) {
        statements.clear();
        database.close();
        if (file !== null) deleteFiles(file);
        database = open();
      }
      return otherwise;
    }
  }

  /** Preparing a statement takes as long as running it, so each is prepared once. */
  function statement(sql: string): StatementSync {
    const known = statements.get(sql);
    if (known) return known;
    const prepared = database.prepare(sql);
    statements.set(sql, prepared);
    return prepared;
  }

  return {
    all: (sql, ...values) => attempt(() => statement(sql).all(...values), []),
    run: (sql, ...values) => attempt(() => Number(statement(sql).run(...values).changes), 0),
    transaction(work) {
      const hasBegun = attempt(() => {
        database.exec('BEGIN IMMEDIATE');
        return true;
      }, false);
      work();
      if (!hasBegun) return;
      attempt(() => {
        if (database.isTransaction) database.exec('COMMIT');
      }, undefined);
    },
    close() {
      attempt(() => {
        database.close();
      }, undefined);
    },
  };
}

function prepared(database: DatabaseSync): DatabaseSync {
  // Readers do not wait for a writer. A power failure may lose the last writes, but not the file.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
  const version = database.prepare('PRAGMA user_version').get()?.['user_version'];
  if (version === schemaVersion) return database;
  database.exec('BEGIN IMMEDIATE');
  // Another process may have created the tables in the meantime.
  const now = database.prepare('PRAGMA user_version').get()?.['user_version'];
  if (now !== schemaVersion) {
    if (now !== 0) throw new UnknownSchema(`version ${String(now)}`);
    database.exec(schema);
  }
  database.exec('COMMIT');
  return database;
}

class UnknownSchema extends Error {}

/** SQLite result codes for a file that is damaged, not a database, or has other tables. */
const damageCodes: ReadonlySet<number> = new Set([
  1, // SQLITE_ERROR: no such table
  11, // SQLITE_CORRUPT
  26, // SQLITE_NOTADB
]);

function isDamage(error: unknown): boolean {
  if (error instanceof UnknownSchema) return true;
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) : 0;
  // The low byte is the primary result code.
  return damageCodes.has(code & 0xff);
}

function deleteFiles(file: string): void {
  for (const suffix of ['', '-wal', '-shm', '-journal'])
    rmSync(`${file}${suffix}`, { force: true });
}

import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite';

/**
 * What this machine remembers of a cache. Nothing in it is needed: whatever is wrong with the file,
 * it is thrown away and begun anew, and where no file can be, the memory of one process has to do.
 */
export interface LocalDatabase {
  all(sql: string, ...values: SQLInputValue[]): Record<string, SQLOutputValue>[];
  /** @returns how many rows changed */
  run(sql: string, ...values: SQLInputValue[]): number;
  /** All of `work`, or nothing. */
  transaction(work: () => void): void;
  close(): void;
}

/** Of the tables below; a file of any other is thrown away. */
const schemaVersion = 1;

const schema = `
  CREATE TABLE known (digest TEXT PRIMARY KEY, path TEXT NOT NULL, place TEXT NOT NULL,
    at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX known_path ON known (path);
  CREATE TABLE staged (digest TEXT PRIMARY KEY, path TEXT NOT NULL, upload TEXT NOT NULL,
    batch INTEGER NOT NULL, sure INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE unfinished (digest TEXT PRIMARY KEY, upload TEXT NOT NULL, batch INTEGER NOT NULL,
    token TEXT NOT NULL, owner TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = ${schemaVersion};
`;

/** How long another process's write is waited for, in milliseconds. */
const busyTimeoutMs = 2_000;

/** @param file null for none: then nothing outlives this process */
export async function openLocalDatabase(file: string | null): Promise<LocalDatabase> {
  // On first use: most commands need none of it.
  const sqlite = await import('node:sqlite');
  const statements = new Map<string, StatementSync>();
  let database = open();

  function open(): DatabaseSync {
    if (file === null) return prepared(new sqlite.DatabaseSync(':memory:'));
    try {
      mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
      return openFile(file);
    } catch (error) {
      if (!isDamage(error)) return prepared(new sqlite.DatabaseSync(':memory:'));
    }
    try {
      throwAway(file);
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

  /** What goes wrong costs requests, and never the upload. */
  function attempt<T>(work: () => T, otherwise: T): T {
    try {
      return work();
    } catch (error) {
      if (isDamage(error)) {
        statements.clear();
        database.close();
        if (file !== null) throwAway(file);
        database = open();
      }
      return otherwise;
    }
  }

  /** To prepare a statement takes as long as to run it, and there are few. */
  function statement(sql: string): StatementSync {
    const known = statements.get(sql);
    if (known) return known;
    const made = database.prepare(sql);
    statements.set(sql, made);
    return made;
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
  // Readers need not wait for a writer; a power cut may cost the last lines, and never the file.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
  const version = database.prepare('PRAGMA user_version').get()?.['user_version'];
  if (version === schemaVersion) return database;
  database.exec('BEGIN IMMEDIATE');
  // Another process may have been faster.
  const now = database.prepare('PRAGMA user_version').get()?.['user_version'];
  if (now !== schemaVersion) {
    if (now !== 0) throw new UnknownSchema(`version ${String(now)}`);
    database.exec(schema);
  }
  database.exec('COMMIT');
  return database;
}

class UnknownSchema extends Error {}

/** SQLite's result codes for a file that is no database or is damaged, and for tables that are not ours. */
const damageCodes: ReadonlySet<number> = new Set([
  1, // SQLITE_ERROR: no such table
  11, // SQLITE_CORRUPT
  26, // SQLITE_NOTADB
]);

function isDamage(error: unknown): boolean {
  if (error instanceof UnknownSchema) return true;
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) : 0;
  // The low byte is the primary code.
  return damageCodes.has(code & 0xff);
}

function throwAway(file: string): void {
  for (const suffix of ['', '-wal', '-shm', '-journal'])
    rmSync(`${file}${suffix}`, { force: true });
}

import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { nonEmpty } from '../process/environment.ts';

/** One line of the hook; `outPath` is null when Nix passed no outputs. */
export interface SpoolEntry {
  readonly drvPath: string;
  readonly outPath: string | null;
}

export interface SpoolOptions {
  /** Aborted when the build has ended: the rest of the file is read, then reading ends. */
  readonly ended: AbortSignal;
  /** Time between two reads of the file. @default 100 */
  readonly pollMs?: number;
}

const readBytes = 64 * 1024;

/**
 * Yields the entries of the spool file `file` as hooks append them, until `ended`. It polls, since
 * file watching does not work on every file system. A last line without its end is an append in
 * flight or one that was killed: the reader waits for it, and drops it at the end.
 */
export async function* readSpool(
  file: string,
  { ended, pollMs = 100 }: SpoolOptions,
): AsyncGenerator<SpoolEntry> {
  const handle = await open(file, 'r');
  try {
    const buffer = Buffer.alloc(readBytes);
    let rest = '';
    while (true) {
      // Checked before reading, so that everything appended before the end is read.
      const isLast = ended.aborted;
      while (true) {
        const { bytesRead } = await handle.read(buffer, 0, readBytes);
        if (bytesRead === 0) break;
        // Latin-1 keeps every byte. Store paths are ASCII; other lines are refused later.
        const lines = (rest + buffer.toString('latin1', 0, bytesRead)).split('\n');
        rest = lines.pop() ?? '';
        yield* lines.flatMap(parseEntry);
      }
      if (isLast) return;
      await sleep(pollMs, undefined, { signal: ended }).catch(() => undefined);
    }
  } finally {
    await handle.close();
  }
}

function parseEntry(line: string): SpoolEntry[] {
  const [drvPath, outPath] = line.split(' ');
  return drvPath ? [{ drvPath, outPath: nonEmpty(outPath) ?? null }] : [];
}

import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { nonEmpty } from '../environment.ts';

/** What the hook said of one build; `outPath` is null where nix named no outputs. */
export interface SpoolEntry {
  readonly drvPath: string;
  readonly outPath: string | null;
}

export interface SpoolOptions {
  /** When aborted, what is in the file by then is still read, and the reading ends. */
  readonly ended: AbortSignal;
  /** Milliseconds between looks at the file. @default 100 */
  readonly pollMs?: number;
}

const readBytes = 64 * 1024;

/**
 * The entries of the spool file `file` as hooks append them, until `ended`. It is looked at again
 * and again, since watching does not work on every filesystem that a folder may lie on. A last
 * line without its end is an append under way (or one that was killed): it is waited for, and at
 * the end dropped.
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
      // Asked before reading: what was appended before the end is then read for certain.
      const isLast = ended.aborted;
      while (true) {
        const { bytesRead } = await handle.read(buffer, 0, readBytes);
        if (bytesRead === 0) break;
        // Latin-1 keeps bytes apart; store paths are ASCII and anything else is refused later.
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

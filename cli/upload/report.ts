import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';

import { NicheError, messageOf, quote } from '../../core/errors.ts';
import type { PathResult, UploadLookups } from './results.ts';

/**
 * Writes the results as JSON Lines: a record for each path, then one with the number of requests that
 * looked for paths in the cache and its upstreams.
 *
 * @throws NicheError `storage-denied` when the file cannot be written
 */
export async function writeReport(
  file: string,
  results: readonly PathResult[],
  lookups?: UploadLookups,
): Promise<void> {
  try {
    const stream = createWriteStream(file);
    for (const result of results) stream.write(`${JSON.stringify(result)}\n`);
    if (lookups) stream.write(`${JSON.stringify({ lookups })}\n`);
    stream.end();
    await finished(stream);
  } catch (cause) {
    throw new NicheError(
      'storage-denied',
      `cannot write the report ${quote(file)}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

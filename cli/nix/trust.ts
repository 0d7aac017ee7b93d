import * as z from 'zod';

import { nixFailed, type Ask } from './ask.ts';

/** `trusted` came with Nix 2.14; it has been a number and a boolean, and null for "can't tell". */
const storeInfo = z.object({ trusted: z.union([z.boolean(), z.literal([0, 1])]) });

/** A host that cannot exist; a daemon answers before anything would look for it. */
const strangeSubstituter = 'http://niche.invalid/';

/**
 * Whether nix takes restricted settings from this user. A daemon that does not trust its client
 * drops such settings, older ones without a word.
 *
 * @throws NicheError `nix-failed` when the store does not answer
 */
export async function askTrust(ask: Ask): Promise<boolean> {
  const asked = await ask('nix', ['store', 'info', '--json']);
  const info = asked.status === 0 ? parseStoreInfo(asked.stdout.toString('utf8')) : undefined;
  if (info !== undefined) return info;
  // Older: a daemon warns an untrusted client that it ignores a substituter it does not know.
  const args = ['store', 'ping', '--option', 'substituters', strangeSubstituter];
  const pinged = await ask('nix', args);
  if (pinged.status !== 0) throw nixFailed('nix', args, pinged);
  return !pinged.stderr.includes('untrusted substituter');
}

function parseStoreInfo(json: string): boolean | undefined {
  try {
    const { data } = storeInfo.safeParse(JSON.parse(json));
    return data && Boolean(data.trusted);
  } catch {
    return undefined;
  }
}

import * as z from 'zod';

import { nixFailed, type Ask } from './ask.ts';

/** Since Nix 2.14: a number or a boolean, or null when unknown. */
const storeInfo = z.object({ trusted: z.union([z.boolean(), z.literal([0, 1])]) });

/** A host that cannot exist. The daemon answers before anything resolves it. */
const unknownSubstituter = 'http://niche.invalid/';

/**
 * Returns whether Nix accepts restricted settings from this user. From an untrusted client a daemon
 * ignores them, older versions without a warning.
 *
 * @throws NicheError `nix-failed` when the store does not answer
 */
export async function askTrust(ask: Ask): Promise<boolean> {
  const shown = await ask('nix', ['store', 'info', '--json']);
  const trusted = shown.status === 0 ? parseTrusted(shown.stdout.toString('utf8')) : undefined;
  if (trusted !== undefined) return trusted;
  // Before Nix 2.14: a daemon warns an untrusted client that it ignores an unknown substituter.
  const args = ['store', 'ping', '--option', 'substituters', unknownSubstituter];
  const pinged = await ask('nix', args);
  if (pinged.status !== 0) throw nixFailed('nix', args, pinged);
  return !pinged.stderr.includes('untrusted substituter');
}

function parseTrusted(json: string): boolean | undefined {
  try {
    const { data } = storeInfo.safeParse(JSON.parse(json));
    return data && Boolean(data.trusted);
  } catch {
    return undefined;
  }
}

import { randomInt } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { isNicheError, NicheError } from '../../core/errors.ts';
import { nixFailed } from '../nix/ask.ts';
import type { NixConfigEntry } from '../nix/nix-config.ts';
import type { Nix } from '../nix/nix.ts';
import { hookScript } from './hook.ts';

/** The name of the probe’s output, which is not worth an upload. */
export const probeName = 'niche-hook-probe';

/** Builds of one derivation wait for each other, so that concurrent probes use different ones. */
const probes = 64;

/** A probe waits up to 5 s for another one of the same derivation, longer on a busy machine. */
const timeoutMs = 30_000;

/** The build must take place here and at once, whatever the user has configured. */
const buildHere: readonly NixConfigEntry[] = [
  ['max-jobs', '1'],
  ['builders', ''],
  ['substitute', 'false'],
];

/**
 * Checks that Nix can run a post-build hook in `folder`, with a build that takes some milliseconds. A
 * hook that Nix cannot run fails the build. The daemon may run in a container or have a `/tmp` of its
 * own, and mount options or security modules may also prevent it.
 *
 * @throws NicheError `nix-failed` when Nix cannot run the hook, `aborted` when the build takes too long
 */
export async function probeHook(nix: Nix, folder: string): Promise<void> {
  const hookFile = path.join(folder, 'probe');
  const spoolFile = path.join(folder, 'probed');
  writeFileSync(spoolFile, '', { mode: 0o600, flag: 'wx' });
  writeFileSync(hookFile, hookScript(spoolFile, null), { mode: 0o700, flag: 'wx' });
  const args = ['build', '--no-link', '--expr', probeExpression(randomInt(probes))];
  const config = [...buildHere, ['post-build-hook', hookFile] as const];
  const options = { config, signal: AbortSignal.timeout(timeoutMs) };
  // Rebuilding adds nothing to the store. It fails where the probe was never built.
  const rebuilt = await nix.ask('nix', [...args, '--rebuild'], options);
  const built = rebuilt.status === 0 ? rebuilt : await nix.ask('nix', args, options);
  if (readFileSync(spoolFile, 'utf8') !== '') return;
  const failed = [built, rebuilt].find(({ status }) => status !== 0);
  if (failed !== undefined) throw nixFailed('nix', args, failed);
  throw new NicheError('nix-failed', 'the probe was built, but the hook did not run');
}

/** Returns why {@link probeHook} failed, as one line. @throws any other error */
export function probeFailure(error: unknown): string {
  if (isNicheError(error, 'aborted')) return 'the probe took too long';
  if (!isNicheError(error, 'nix-failed')) throw error;
  const line = error.message.split('\n').findLast((text) => /^\s*error: ./u.test(text));
  return line?.trim() ?? error.message;
}

/** Its builder is part of Nix: it runs on each system, needs no shell and no network. */
function probeExpression(number: number): string {
  const attributes = [
    `name = "${probeName}"`,
    'system = "builtin"',
    'builder = "builtin:buildenv"',
    'derivations = ""',
    'manifest = "/dev/null"',
    `number = ${number}`,
  ];
  return `derivation { ${attributes.join('; ')}; }`;
}

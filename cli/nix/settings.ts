import * as z from 'zod';

import { NicheError } from '../../core/errors.ts';
import { nonEmpty } from '../process/environment.ts';

/** The part of Nix's configuration that matters to a cache. */
export interface NixSettings {
  /** The `store` setting. */
  readonly store: string;
  /** The `eval-store` setting; null for the same store. */
  readonly evalStore: string | null;
  readonly substituters: readonly string[];
  /** Substituters that untrusted users may select too. */
  readonly trustedSubstituters: readonly string[];
  readonly trustedPublicKeys: readonly string[];
  /** The user's own post-build hook, if any. */
  readonly postBuildHook: string | null;
  /** The file with the logins for private caches. */
  readonly netrcFile: string | null;
  /** Whether Nix can write a JSON log (since 2.30), and the user has not set where. */
  readonly hasJsonLog: boolean;
}

const setting = <T extends z.ZodType>(value: T) => z.object({ value }).optional();
const names = setting(z.array(z.string()));

const settingsSchema = z.object({
  store: setting(z.string()),
  'eval-store': setting(z.string()),
  substituters: names,
  'trusted-substituters': names,
  'trusted-public-keys': names,
  'post-build-hook': setting(z.string()),
  'netrc-file': setting(z.string()),
  'json-log-path': setting(z.string().nullable()),
});

/**
 * Reads the output of `nix config show --json`: an object of `{value, …}` by setting. Only the settings
 * that niche uses are checked, since the others differ between versions.
 *
 * @throws NicheError `nix-failed` when its shape is wrong
 */
export function parseSettings(json: string): NixSettings {
  let document: unknown;
  try {
    document = JSON.parse(json);
  } catch (error) {
    throw unreadable('not JSON', error);
  }
  const { data, error } = settingsSchema.safeParse(document);
  if (error !== undefined) throw unreadable(z.prettifyError(error), error);
  return {
    store: data.store?.value ?? 'auto',
    evalStore: nonEmpty(data['eval-store']?.value) ?? null,
    substituters: data.substituters?.value ?? [],
    trustedSubstituters: data['trusted-substituters']?.value ?? [],
    trustedPublicKeys: data['trusted-public-keys']?.value ?? [],
    postBuildHook: nonEmpty(data['post-build-hook']?.value) ?? null,
    netrcFile: nonEmpty(data['netrc-file']?.value) ?? null,
    hasJsonLog: data['json-log-path'] !== undefined && !data['json-log-path'].value,
  };
}

function unreadable(why: string, cause: unknown): NicheError {
  return new NicheError('nix-failed', `cannot read Nix's configuration: ${why}`, { cause });
}

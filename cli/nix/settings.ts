import * as z from 'zod';

import { NicheError } from '../../core/errors.ts';
import { nonEmpty } from '../environment.ts';

/** The part of nix's configuration that matters to a cache. */
export interface NixSettings {
  /** The `store` setting. */
  readonly store: string;
  readonly substituters: readonly string[];
  /** Substituters that untrusted users may choose too. */
  readonly trustedSubstituters: readonly string[];
  readonly trustedPublicKeys: readonly string[];
  /** The program that is configured to run after each build, if any. */
  readonly postBuildHook: string | null;
}

const setting = <T extends z.ZodType>(value: T) => z.object({ value }).optional();
const names = setting(z.array(z.string()));

const settingsSchema = z.object({
  store: setting(z.string()),
  substituters: names,
  'trusted-substituters': names,
  'trusted-public-keys': names,
  'post-build-hook': setting(z.string()),
});

/**
 * Reads `nix config show --json`: an object of `{value, …}` by setting. Only what niche reads is
 * checked, since the rest differs from version to version.
 *
 * @throws NicheError `nix-failed` when it is not of that shape
 */
export function parseSettings(json: string): NixSettings {
  let document: unknown;
  try {
    document = JSON.parse(json);
  } catch (error) {
    throw unreadable('it is not JSON', error);
  }
  const { data, error } = settingsSchema.safeParse(document);
  if (error !== undefined) throw unreadable(z.prettifyError(error), error);
  return {
    store: data.store?.value ?? 'auto',
    substituters: data.substituters?.value ?? [],
    trustedSubstituters: data['trusted-substituters']?.value ?? [],
    trustedPublicKeys: data['trusted-public-keys']?.value ?? [],
    postBuildHook: nonEmpty(data['post-build-hook']?.value) ?? null,
  };
}

function unreadable(why: string, cause: unknown): NicheError {
  return new NicheError('nix-failed', `cannot read nix's configuration: ${why}`, { cause });
}

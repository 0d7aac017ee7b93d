/** A `name = value` of nix.conf; `extra-…` names append to what is configured. */
export type NixConfigEntry = readonly [name: string, value: string];

/**
 * `NIX_CONFIG` with `entries` after what it held. It is never replaced: it may carry access tokens
 * or the very features that the caller's expressions need.
 */
export function appendNixConfig(
  existing: string | undefined,
  entries: readonly NixConfigEntry[],
): string {
  const lines = entries.map(([name, value]) => `${name} = ${value}`);
  return [...(existing ? [existing] : []), ...lines].join('\n');
}

/**
 * Whether nix.conf's syntax can carry `value` unchanged: it has no quoting, splits at white space
 * and takes everything after a `#` for a comment.
 */
export function isNixConfigValue(value: string): boolean {
  return value !== '' && !/[\s#]/u.test(value);
}

/** A `name = value` of nix.conf; names with `extra-` append to the user's value. */
export type NixConfigEntry = readonly [name: string, value: string];

/**
 * Appends `entries` to `NIX_CONFIG`. Its old value is kept: it may contain access tokens, or features
 * that the user's expressions need.
 */
export function appendNixConfig(
  existing: string | undefined,
  entries: readonly NixConfigEntry[],
): string {
  const lines = entries.map(([name, value]) => `${name} = ${value}`);
  return [...(existing ? [existing] : []), ...lines].join('\n');
}

/**
 * Returns whether `value` is valid in nix.conf, which has no quoting, splits at white space and takes
 * everything after a `#` as a comment.
 */
export function isNixConfigValue(value: string): boolean {
  return value !== '' && !/[\s#]/u.test(value);
}

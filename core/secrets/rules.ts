import { NicheError, messageOf, quote } from '../errors.ts';

/** The rules for which values of a SOPS document are encrypted. At most one is set. */
export interface EncryptionRules {
  readonly unencrypted_suffix?: string | undefined;
  readonly encrypted_suffix?: string | undefined;
  readonly unencrypted_regex?: string | undefined;
  readonly encrypted_regex?: string | undefined;
  readonly unencrypted_comment_regex?: string | undefined;
  readonly encrypted_comment_regex?: string | undefined;
}

/** SOPS's rule for a document without one. */
export const defaultRules: EncryptionRules = { unencrypted_suffix: '_unencrypted' };

/** In characters. The expression comes from a document, and is matched against every name. */
const maxRegexCharacters = 1_024;

/**
 * Returns a predicate that decides whether the value at a path of member names is encrypted.
 *
 * @throws NicheError `malformed-secrets` for more than one rule, or an invalid regular expression
 */
export function encryptionRule(
  rules: EncryptionRules,
  where: string,
): (path: readonly string[]) => boolean {
  const set = Object.entries(rules).filter(([, value]) => (value ?? '') !== '') as [
    keyof EncryptionRules,
    string,
  ][];
  const [rule] = set.length === 0 ? Object.entries(defaultRules) : set;
  if (set.length > 1 || !rule) {
    throw new NicheError(
      'malformed-secrets',
      `reading ${where}: expected one encryption rule, got ${set.map(([name]) => name).join(', ')}`,
    );
  }
  const [name, value] = rule as [keyof EncryptionRules, string];
  switch (name) {
    case 'unencrypted_suffix':
      return (path) => !path.some((part) => part.endsWith(value));
    case 'encrypted_suffix':
      return (path) => path.some((part) => part.endsWith(value));
    case 'unencrypted_regex': {
      const regex = compile(value, where);
      return (path) => !path.some((part) => regex.test(part));
    }
    case 'encrypted_regex': {
      const regex = compile(value, where);
      return (path) => path.some((part) => regex.test(part));
    }
    // JSON has no comments.
    case 'unencrypted_comment_regex':
      return () => true;
    case 'encrypted_comment_regex':
      return () => false;
  }
}

/** Compiles a Go expression, which SOPS uses: like JavaScript's, but with flags in front, as `(?i)`. */
function compile(text: string, where: string): RegExp {
  const [, flags = '', rest = text] = /^\(\?([ims]+)\)(.*)$/s.exec(text) ?? [];
  try {
    if (text.length > maxRegexCharacters) throw new Error(`over ${maxRegexCharacters} characters`);
    return new RegExp(rest, `${flags}u`);
  } catch (cause) {
    throw new NicheError(
      'malformed-secrets',
      `reading ${where}: invalid regular expression ${quote(text)}: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/**
 * A user or a password before the host. A password may contain characters that end the authority, as in
 * `https://ci:a/b@host`: then a colon that no port follows, and an `@` after it, give it away.
 */
const inAuthority = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*@/i;
const broken = /^(?:[a-z][a-z0-9+.-]*:\/\/)?[^/?#@:[]*:(?!\/|\d{1,5}(?:[/?#]|$))[^@]*@/i;

/** Returns whether `url` contains a user or a password, even where it cannot be parsed. */
export function hasCredentials(url: string): boolean {
  return inAuthority.test(url) || broken.test(url);
}

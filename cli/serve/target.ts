import { isPublicObject } from '../../core/cache/layout.ts';

/** What a request asks for: an object, the landing page, or nothing that is served. */
type Target =
  | { readonly kind: 'object'; readonly key: string }
  | { readonly kind: 'landing' }
  | { readonly kind: 'refused'; readonly status: 400 | 404 };

const malformed: Target = { kind: 'refused', status: 400 };

/**
 * Reads a request's target as it came over the wire. Nothing is normalised: a path with `..`, an
 * encoded slash or a control character is refused, so that no two readings of one URL can differ.
 * A query is ignored.
 */
export function parseTarget(target: string): Target {
  // The absolute form is for proxies, but servers have to take it (RFC 9112, section 3.2.2).
  const path = target.replace(/^https?:\/\/[^/?#]*/i, '').replace(/\?.*$/s, '') || '/';
  if (!path.startsWith('/') || /%(?:2f|5c)/i.test(path)) return malformed;
  const key = decode(path.slice(1));
  if (key === null || /[\p{Cc}\\#]/u.test(key)) return malformed;
  if (key.split('/').some((segment) => segment === '.' || segment === '..')) return malformed;
  if (key === '') return { kind: 'landing' };
  return isPublicObject(key) ? { kind: 'object', key } : { kind: 'refused', status: 404 };
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

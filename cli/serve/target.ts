import { isPublicObject } from '../../core/cache/layout.ts';

/** The target of a request: an object, the landing page, or nothing that is served. */
type Target =
  | { readonly kind: 'object'; readonly key: string }
  | { readonly kind: 'landing' }
  | { readonly kind: 'refused'; readonly status: 400 | 404 };

const malformed: Target = { kind: 'refused', status: 400 };

/**
 * Parses the target of a request as it was sent. It normalizes nothing: it refuses `..`, encoded
 * slashes and control characters, so that nobody can interpret a URL in another way. It ignores queries.
 */
export function parseTarget(target: string): Target {
  // The absolute form is for proxies, but servers must accept it (RFC 9112, section 3.2.2).
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

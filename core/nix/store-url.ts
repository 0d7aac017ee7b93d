/**
 * The parameters that Nix takes from the URL of any binary cache, and that say nothing about where the
 * cache is (StoreConfig, BinaryCacheStoreConfig, HttpBinaryCacheStoreConfig and
 * S3BinaryCacheStoreConfig, up to Nix 2.35).
 */
const storeParameters: ReadonlySet<string> = new Set([
  // every store
  ...['path-info-cache-size', 'priority', 'store', 'system-features', 'trusted', 'want-mass-query'],
  // every binary cache
  ...['compression', 'compression-level', 'index-debug-info', 'local-nar-cache'],
  ...['parallel-compression', 'secret-key', 'secret-keys', 'write-nar-listing'],
  // over HTTP
  ...['log-compression', 'ls-compression', 'narinfo-compression', 'retry-attempts', 'retry-delay'],
  ...['retry-delay-rate-limited', 'retry-max-delay', 'tls-certificate', 'tls-private-key'],
  // in S3
  ...['addressing-style', 'buffer-size', 'multipart-chunk-size', 'multipart-threshold'],
  ...['multipart-upload', 'storage-class'],
]);

/** The URL of a binary cache as users write it for Nix. */
export interface StoreUrl {
  /** Where the cache is. */
  readonly url: string;
  /** How Nix uses the cache, as `priority=10&trusted=1`; empty for Nix's defaults. */
  readonly parameters: string;
}

/** Takes Nix's parameters out of a URL. Others, such as S3's `endpoint`, stay in it. */
export function parseStoreUrl(text: string): StoreUrl {
  const [, base = '', query, fragment = ''] = /^([^?#]*)\?([^#]*)(#.*)?$/s.exec(text) ?? [];
  if (query === undefined) return { url: text, parameters: '' };
  const fields = query.split('&').filter((field) => field !== '');
  const isNix = (field: string): boolean => storeParameters.has(field.split('=')[0] ?? '');
  const rest = fields.filter((field) => !isNix(field)).join('&');
  return {
    url: `${base}${rest === '' ? '' : `?${rest}`}${fragment}`,
    parameters: fields.filter(isNix).join('&'),
  };
}

/** Undoes {@link parseStoreUrl}. */
export function formatStoreUrl({ url, parameters }: StoreUrl): string {
  if (parameters === '') return url;
  return `${url}${url.includes('?') ? '&' : '?'}${parameters}`;
}

/** Returns whether two URLs are of the same binary cache, whatever their parameters for Nix. */
export function isSameStore(one: string, other: string): boolean {
  return normalForm(one) === normalForm(other);
}

/** Returns whether one of `urls` is of the same binary cache as `url`. */
export function hasStore(urls: readonly string[], url: string): boolean {
  return urls.some((each) => isSameStore(each, url));
}

function normalForm(text: string): string {
  const { url } = parseStoreUrl(text);
  const parsed = URL.parse(url);
  if (parsed === null) return url;
  // Nix sends no parameter of an HTTP URL to the server, and knows none for a directory.
  if (/^(?:https?|file):$/.test(parsed.protocol)) parsed.search = '';
  parsed.hash = '';
  const { search } = parsed;
  parsed.search = '';
  return `${parsed.href.replace(/\/+$/, '')}${search}`;
}

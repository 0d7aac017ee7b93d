/** How long a server may take to respond. */
const timeoutMs = 5_000;

/**
 * Returns the storage URL of the bucket at a web address, such as
 * `s3://acme?endpoint=http://host:9000`. It recognizes the storage by its response headers, and sends
 * no credentials.
 *
 * @returns null if the server is not storage, or the address has no bucket
 */
export async function discoverStorage(url: string): Promise<string | null> {
  const { origin, pathname } = new URL(url);
  const [first, ...rest] = pathname.split('/').filter((segment) => segment !== '');
  if (first === undefined) return null;
  const headers = await fetchHeaders(url);
  if (headers?.has('x-amz-request-id') === true) {
    return `s3://${[first, ...rest].join('/')}?endpoint=${origin}`;
  }
  if (headers?.has('x-ms-request-id') === true && rest.length > 0) {
    return `azure://${[first, ...rest].join('/')}?endpoint=${origin}/${first}`;
  }
  return null;
}

async function fetchHeaders(url: string): Promise<Headers | null> {
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(`${url}/nix-cache-info`, { redirect: 'manual', signal });
    await response.body?.cancel();
    return response.headers;
  } catch {
    return null;
  }
}

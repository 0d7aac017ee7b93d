/** For a server to answer, in milliseconds. */
const answersWithinMs = 5_000;

/**
 * The URL of the storage that answers at a web address, as `s3://acme?endpoint=http://host:9000`, by
 * the way in which it answers: what a private bucket at home can be named by. Nobody's credentials are
 * sent.
 *
 * @returns null where it is no storage, or one that the address does not name a bucket of
 */
export async function recogniseStorage(url: string): Promise<string | null> {
  const { origin, pathname } = new URL(url);
  const [first, ...rest] = pathname.split('/').filter((segment) => segment !== '');
  if (first === undefined) return null;
  const headers = await answerHeaders(url);
  if (headers?.has('x-amz-request-id') === true) {
    return `s3://${[first, ...rest].join('/')}?endpoint=${origin}`;
  }
  if (headers?.has('x-ms-request-id') === true && rest.length > 0) {
    return `azure://${[first, ...rest].join('/')}?endpoint=${origin}/${first}`;
  }
  return null;
}

async function answerHeaders(url: string): Promise<Headers | null> {
  try {
    const signal = AbortSignal.timeout(answersWithinMs);
    const response = await fetch(`${url}/nix-cache-info`, { redirect: 'manual', signal });
    await response.body?.cancel();
    return response.headers;
  } catch {
    return null;
  }
}

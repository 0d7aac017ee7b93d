import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { isAllowedByGoogle } from './google-iam-policy.ts';
import type { Binding, GoogleIamRequest } from './google-iam-policy.ts';

/** A member's view of Cloud Storage. */
export interface GoogleIamDoor {
  /** `http://127.0.0.1:<port>` */
  readonly origin: string;
  /** The refused requests so far: permission, bucket and object. */
  readonly denials: readonly string[];
  stop(): Promise<void>;
}

/**
 * Starts a proxy for fake-gcs-server, which checks no rights. Every request through it is one of
 * `member`, and must be allowed by `bindings`. Of the two refusals that Google may give a creator whose
 * object exists, it gives the one that looks like any other missing right.
 *
 * @see https://cloud.google.com/storage/docs/access-control/iam-json
 */
export async function startGoogleIam(
  target: string,
  member: string,
  bindings: readonly Binding[],
): Promise<GoogleIamDoor> {
  const denials: string[] = [];
  let origin = '';

  const isAllowed = (request: GoogleIamRequest): boolean =>
    isAllowedByGoogle(request, member, bindings);

  const exists = async (bucket: string, object: string): Promise<boolean> =>
    (await fetch(`${target}/storage/v1/b/${bucket}/o/${encodeURIComponent(object)}`)).ok;

  /** Returns the first permission that the request lacks; null when it lacks none. */
  async function findLack(method: string, url: URL): Promise<GoogleIamRequest | null> {
    const { pathname, searchParams } = url;
    // The address of a session is a credential of its own.
    if (searchParams.has('upload_id')) return null;
    const [, isUpload, bucket = '', isObjects, path] =
      /^(\/upload)?\/storage\/v1\/b\/([^/]+)(\/o)?(?:\/(.+))?$/.exec(pathname) ?? [];
    const needed: GoogleIamRequest[] = [];
    if (isUpload !== undefined) {
      const object = searchParams.get('name') ?? '';
      needed.push({ permission: 'objects.create', bucket, object });
      const isTaken = await exists(bucket, object);
      if (isTaken) needed.push({ permission: 'objects.delete', bucket, object });
    } else if (isObjects === undefined) {
      needed.push({ permission: 'buckets.get', bucket });
    } else if (path === undefined) {
      const listPrefix = searchParams.get('prefix') ?? '';
      needed.push({ permission: 'objects.list', bucket, listPrefix });
    } else {
      const object = decodeURIComponent(path);
      const permission = method === 'DELETE' ? 'objects.delete' : 'objects.get';
      needed.push({ permission, bucket, object });
      // Only a member that may list learns that an object is missing.
      const isMissing = !(await exists(bucket, object));
      if (isMissing) needed.push({ permission: 'objects.list', bucket });
    }
    return needed.find((request) => !isAllowed(request)) ?? null;
  }

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const url = new URL(incoming.url ?? '/', target);
    const method = incoming.method ?? 'GET';
    const sent = await buffer(incoming);
    const lack = await findLack(method, url);
    if (lack !== null) {
      const { permission, bucket, object = '' } = lack;
      denials.push(`${permission} ${bucket}/${object}`);
      const message = `${member} does not have storage.${permission} access to the Google Cloud Storage object.`;
      const error = { code: 403, message, errors: [{ message, reason: 'forbidden' }] };
      outgoing
        .writeHead(403, { 'content-type': 'application/json' })
        .end(JSON.stringify({ error }));
      return;
    }
    const headers = new Headers(incoming.headers as Record<string, string>);
    for (const name of ['host', 'connection']) headers.delete(name);
    const response = await fetch(url, {
      method,
      headers,
      redirect: 'manual',
      ...(method === 'GET' || method === 'HEAD' ? {} : { body: sent }),
    });
    const received = Buffer.from(await response.arrayBuffer());
    const shown = new Headers(response.headers);
    for (const name of ['content-encoding', 'transfer-encoding', 'connection']) shown.delete(name);
    shown.set('content-length', String(received.length));
    const location = shown.get('location');
    if (location !== null) shown.set('location', location.replace(target, origin));
    outgoing.writeHead(response.status, Object.fromEntries(shown)).end(received);
  }

  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    denials,
    async stop() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

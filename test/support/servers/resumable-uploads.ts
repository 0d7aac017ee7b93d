import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Agent, createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** An upload session. */
interface Session {
  /** The path and query that started it, with the object's name and its preconditions. */
  readonly start: string;
  /** The object's metadata: the JSON that started it. */
  readonly metadata: Buffer;
  readonly bytes: Buffer[];
  stored: number;
  /** The response to its last part, which is repeated for every later request. */
  end?: Promise<Answer>;
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/** Before the last part, Google stores only multiples of this many bytes. */
const granuleBytes = 256 * 1024;

/**
 * Serves resumable uploads as Google documents them and forwards every other request to
 * fake-gcs-server, which sees a finished upload as one multipart request. fake-gcs-server's own
 * resumable uploads ignore preconditions and take a status request for the end of the upload.
 */
export async function startResumableUploads(
  target: string,
): Promise<{ origin: string; stop: () => Promise<void> }> {
  const agent = new Agent({ keepAlive: true });
  const sessions = new Map<string, Session>();

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const path = incoming.url ?? '/';
    const query = new URL(path, target).searchParams;
    const isStart = query.get('uploadType') === 'resumable' && !query.has('upload_id');
    const session = sessions.get(query.get('upload_id') ?? '');
    if (isStart) {
      const id = randomUUID();
      sessions.set(id, { start: path, metadata: await buffer(incoming), bytes: [], stored: 0 });
      const location = `http://${incoming.headers.host ?? ''}${path}&upload_id=${id}`;
      outgoing.writeHead(200, { location, 'content-length': 0 }).end();
      return;
    }
    if (session === undefined) {
      forward(incoming, outgoing);
      return;
    }
    const body = await buffer(incoming);
    if (incoming.method === 'DELETE') {
      session.end = Promise.resolve({ status: 404, body: Buffer.alloc(0) });
      outgoing.writeHead(499, { 'content-length': 0 }).end();
      return;
    }
    const contentRange = incoming.headers['content-range'] ?? '';
    take(session, contentRange, body);
    if (totalOf(contentRange) === session.stored) session.end ??= finish(session);
    if (session.end === undefined) {
      const range = session.stored === 0 ? {} : { range: `bytes=0-${session.stored - 1}` };
      outgoing.writeHead(308, { ...range, 'content-length': 0 }).end();
      return;
    }
    const { status, body: answer } = await session.end;
    const headers = { 'content-type': 'application/json', 'content-length': answer.length };
    outgoing.writeHead(status, headers).end(answer);
  }

  /** Sends the whole object to the server in one request, which checks the preconditions. */
  async function finish({ start, metadata, bytes }: Session): Promise<Answer> {
    const boundary = randomUUID();
    const part = (type: string): string => `--${boundary}\r\ncontent-type: ${type}\r\n\r\n`;
    const { contentType = 'application/octet-stream' } = JSON.parse(
      metadata.toString() || '{}',
    ) as { contentType?: string };
    const response = await fetch(
      new URL(start.replace('uploadType=resumable', 'uploadType=multipart'), target),
      {
        method: 'POST',
        headers: { 'content-type': `multipart/related; boundary=${boundary}` },
        body: Buffer.concat([
          ...[Buffer.from(part('application/json')), metadata],
          ...[Buffer.from(`\r\n${part(contentType)}`), ...bytes],
          Buffer.from(`\r\n--${boundary}--\r\n`),
        ]),
      },
    );
    bytes.length = 0;
    return { status: response.status, body: Buffer.from(await response.arrayBuffer()) };
  }

  function forward(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { hostname, port } = new URL(target);
    const { method, url, rawHeaders } = incoming;
    const onward = httpRequest(
      { hostname, port, method, path: url, headers: rawHeaders, agent, setHost: false },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
        answer.pipe(outgoing);
      },
    );
    onward.on('error', () => outgoing.destroy());
    outgoing.on('close', () => onward.destroy());
    incoming.pipe(onward);
  }

  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      agent.destroy();
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** Adds the bytes of a part that the session lacks, and skips those that it has. */
function take(session: Session, contentRange: string, body: Buffer): void {
  const [, first] = /^bytes (\d+)-/.exec(contentRange) ?? [];
  if (first === undefined || session.end !== undefined) return;
  const fresh = body.subarray(Math.max(0, session.stored - Number(first)));
  const isLast = totalOf(contentRange) !== undefined;
  const kept = isLast ? fresh : fresh.subarray(0, fresh.length - (fresh.length % granuleBytes));
  session.bytes.push(kept);
  session.stored += kept.length;
}

function totalOf(contentRange: string): number | undefined {
  const [, total] = /\/(\d+)$/.exec(contentRange) ?? [];
  return total === undefined ? undefined : Number(total);
}

import { once } from 'node:events';
import { Agent, createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** One upload, as Google keeps it. */
interface Session {
  readonly bytes: Buffer[];
  stored: number;
  /** What its last request comes to, which is answered again to whoever asks. */
  end?: Promise<Answer>;
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/** Google keeps what comes in multiples of this, in bytes, until the last part. */
const granuleBytes = 256 * 1024;

/**
 * Stands before fake-gcs-server and keeps resumable uploads as Google documents them, which that
 * server does not: it takes a question for an upload's progress for the upload's end, and a part
 * that is sent again for the next one. All else is handed on as it comes.
 */
export async function startResumableUploads(
  target: string,
): Promise<{ origin: string; stop: () => Promise<void> }> {
  const agent = new Agent({ keepAlive: true });
  const sessions = new Map<string, Session>();

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const id = new URL(incoming.url ?? '/', target).searchParams.get('upload_id');
    if (id === null) {
      forward(incoming, outgoing);
      return;
    }
    const body = await buffer(incoming);
    const session = sessions.get(id) ?? { bytes: [], stored: 0 };
    sessions.set(id, session);
    if (incoming.method === 'DELETE') {
      session.end = Promise.resolve({ status: 404, body: Buffer.alloc(0) });
      outgoing.writeHead(499, { 'content-length': 0 }).end();
      return;
    }
    const contentRange = incoming.headers['content-range'] ?? '';
    take(session, contentRange, body);
    if (totalOf(contentRange) === session.stored) session.end ??= finish(incoming.url, session);
    if (session.end === undefined) {
      const range = session.stored === 0 ? {} : { range: `bytes=0-${session.stored - 1}` };
      outgoing.writeHead(308, { ...range, 'content-length': 0 }).end();
      return;
    }
    const { status, body: answer } = await session.end;
    const headers = { 'content-type': 'application/json', 'content-length': answer.length };
    outgoing.writeHead(status, headers).end(answer);
  }

  /** Sends the whole of it to the server, in one request. */
  async function finish(path = '/', { bytes, stored }: Session): Promise<Answer> {
    const contentRange = stored === 0 ? 'bytes */0' : `bytes 0-${stored - 1}/${stored}`;
    const response = await fetch(new URL(path, target), {
      method: 'PUT',
      headers: { 'content-range': contentRange },
      body: Buffer.concat(bytes),
    });
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

/** Adds what the session lacks of a part: bytes that it has already are let go by. */
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

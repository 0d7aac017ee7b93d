import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';

import type { Origin } from '../../core/cache/audit.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import { isNicheError, type NicheError } from '../../core/errors.ts';
import { listen, type Listening } from '../../core/util/listen.ts';
import { isCreation, isSignedByB2, maxEventBytes, parseS3Events } from '../events/s3.ts';
import { batchOf, originOf } from '../events/trigger.ts';
import type { TriggerRoot } from '../events/trigger.ts';
import type { Health } from './worker.ts';

export interface WebhookOptions {
  readonly host: string;
  /** 0 selects a free port. */
  readonly port: number;
  /** Senders must send it as `Authorization: Bearer …`. */
  readonly token?: string | undefined;
  /** B2 signs its notifications with it. Without this and a token, every sender is accepted. */
  readonly b2Secret?: string | undefined;
  /** Events outside this root are ignored. With null all are, and only `/healthz` is of use. */
  readonly root: TriggerRoot | null;
  readonly onBatch: (id: BatchId, origin: Origin) => void;
  readonly health: () => Health;
  /** Receives the reason for each refused notification. */
  readonly onRefused: (error: NicheError) => void;
}

/** The server that receives a bucket's notifications. */
export interface Webhook extends Listening {
  /** Stops accepting requests. */
  close(): Promise<void>;
}

/** For a sender to send one notification, in milliseconds. */
const requestTimeoutMs = 30_000;
const maxConnections = 256;
/** Longer than proxies keep a connection, in milliseconds: a request must not meet its close. */
const keepAliveTimeoutMs = 75_000;

/**
 * Listens for notifications: `POST` to any path, and `GET /healthz`. Responds to a notification as
 * soon as it is parsed, before anything is published: senders wait only seconds.
 *
 * @throws NicheError `usage` if the address is not available
 */
export async function listenForEvents(options: WebhookOptions): Promise<Webhook> {
  const { host, port } = options;
  const timeouts = { requestTimeout: requestTimeoutMs, keepAliveTimeout: keepAliveTimeoutMs };
  const server = createServer(timeouts, (request, response) => {
    handle(options, request).then(
      (reply) => {
        send(response, reply);
      },
      // The sender closed the connection before the end of its request.
      () => response.destroy(),
    );
  });
  server.maxConnections = maxConnections;
  const hint = 'choose another address with --listen; port 0 selects a free port';
  const listening = await listen(server, { host, port, hint });
  return {
    ...listening,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

interface Reply {
  readonly status: number;
  readonly body: object;
  readonly allow?: string;
}

async function handle(options: WebhookOptions, request: IncomingMessage): Promise<Reply> {
  const path = (request.url ?? '').replace(/\?.*$/s, '');
  if (path === '/healthz') return healthReply(options, request);
  if (request.method !== 'POST') {
    return { status: 405, body: { error: 'only POST' }, allow: 'POST' };
  }
  const body = await readBody(request);
  if (body === null) {
    return { status: 413, body: { error: `expected at most ${maxEventBytes} bytes` } };
  }
  if (!isFromBucket(options, request, body)) {
    return { status: 401, body: { error: 'expected the bearer token or a signature of B2' } };
  }
  try {
    const events = parseS3Events(body);
    const { root } = options;
    let batches = 0;
    for (const event of events) {
      const id = root && isCreation(event) ? batchOf(event, root) : null;
      if (id === null) continue;
      options.onBatch(id, originOf(event));
      batches += 1;
    }
    return { status: 200, body: { events: events.length, batches } };
  } catch (error) {
    if (!isNicheError(error, 'malformed-event')) throw error;
    options.onRefused(error);
    return { status: 400, body: { error: error.message } };
  }
}

function healthReply({ health }: WebhookOptions, { method }: IncomingMessage): Reply {
  if (method !== 'GET' && method !== 'HEAD') {
    return { status: 405, body: { error: 'only GET and HEAD' }, allow: 'GET, HEAD' };
  }
  const body = health();
  return { status: body.ok ? 200 : 503, body };
}

/** Returns the body; null if it is larger than a notification may be. */
async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxEventBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function isFromBucket(
  { token, b2Secret }: WebhookOptions,
  { headers }: IncomingMessage,
  body: Buffer,
): boolean {
  if (token === undefined && b2Secret === undefined) return true;
  const signature = headers['x-bz-event-notification-signature']?.toString();
  if (b2Secret !== undefined && isSignedByB2(body, signature, b2Secret)) return true;
  // MinIO and others send the configured value verbatim, with or without the scheme.
  const shown = (headers.authorization ?? '').replace(/^Bearer +/i, '');
  return token !== undefined && isSame(shown, token);
}

/** Compares two texts in constant time. */
function isSame(one: string, other: string): boolean {
  const [first, second] = [one, other].map((text) => createHash('sha256').update(text).digest());
  return first !== undefined && second !== undefined && timingSafeEqual(first, second);
}

function send(response: ServerResponse, { status, body, allow }: Reply): void {
  const text = Buffer.from(`${JSON.stringify(body)}\n`);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': text.length,
    'cache-control': 'no-store',
    ...(allow === undefined ? {} : { allow }),
    // The rest of the request is not read.
    ...(status === 413 ? { connection: 'close' } : {}),
  });
  response.end(text);
}

import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';

import type { ReportedOrigin } from '../../core/cache/audit.ts';
import type { BatchId } from '../../core/cache/layout.ts';
import { isNicheError, type NicheError } from '../../core/errors.ts';
import { trackConnections } from '../../core/util/connections.ts';
import { listen, type Listening } from '../../core/util/listen.ts';
import { hostnameOf, isLoopback, isLoopbackHost } from '../../core/util/loopback.ts';
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
  /**
   * B2 signs its notifications with it. Without this and a token, every sender may trigger a batch, but
   * the origin that it claims is ignored.
   */
  readonly b2Secret?: string | undefined;
  /** Events outside this root are ignored. With null all are, and only `/healthz` is of use. */
  readonly root: TriggerRoot | null;
  /** @param origin null if the sender proved nothing */
  readonly onBatch: (id: BatchId, origin: ReportedOrigin | null) => void;
  readonly health: () => Health;
  /** How long a new connection may be silent, in milliseconds. @default 15 s */
  readonly stallTimeoutMs?: number;
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
/** For a client to send a request on a connection, in milliseconds. */
const defaultStallTimeoutMs = 15_000;
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
  let isOnLoopback = true;
  const server = createServer(timeouts, (request, response) => {
    handle(options, isOnLoopback, request).then(
      (reply) => {
        send(response, reply);
      },
      // The sender closed the connection before the end of its request.
      () => response.destroy(),
    );
  });
  const connections = trackConnections(server, options.stallTimeoutMs ?? defaultStallTimeoutMs);
  const hint = 'choose another address with --listen; port 0 selects a free port';
  const listening = await listen(server, { host, port, hint });
  isOnLoopback = isLoopback(listening.address);
  return {
    ...listening,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        connections.endWhenIdle();
      }),
  };
}

interface Reply {
  readonly status: number;
  readonly body: object;
  readonly allow?: string;
}

/** For a request under a name that leads to this machine, which a web page may have (DNS rebinding). */
const unknownHost: Reply = {
  status: 421,
  body: { error: 'unknown host: use localhost or 127.0.0.1, or send the bearer token' },
};

async function handle(
  options: WebhookOptions,
  isOnLoopback: boolean,
  request: IncomingMessage,
): Promise<Reply> {
  const { headers, method, url = '' } = request;
  const isForeign = isOnLoopback && !isLoopbackHost(hostnameOf(headers.host) ?? '');
  if (url.replace(/\?.*$/s, '') === '/healthz') {
    return isForeign ? unknownHost : healthReply(options, request);
  }
  if (method !== 'POST') {
    return { status: 405, body: { error: 'only POST' }, allow: 'POST' };
  }
  if (!/^application\/json\s*(?:;|$)/i.test(headers['content-type'] ?? '')) {
    return { status: 415, body: { error: 'expected content-type: application/json' } };
  }
  const body = await readBody(request);
  if (body === null) {
    return { status: 413, body: { error: `expected at most ${maxEventBytes} bytes` } };
  }
  const isProven = isFromBucket(options, request, body);
  if (!isProven && needsProof(options)) {
    return { status: 401, body: { error: 'expected the bearer token or a signature of B2' } };
  }
  if (!isProven && isForeign) return unknownHost;
  try {
    const events = parseS3Events(body);
    const { root } = options;
    let batches = 0;
    for (const event of events) {
      const id = root && isCreation(event) ? batchOf(event, root) : null;
      if (id === null) continue;
      options.onBatch(id, isProven ? originOf(event) : null);
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

function needsProof({ token, b2Secret }: WebhookOptions): boolean {
  return token !== undefined || b2Secret !== undefined;
}

/** Returns whether the sender proved that it knows a secret. */
function isFromBucket(
  { token, b2Secret }: WebhookOptions,
  { headers }: IncomingMessage,
  body: Buffer,
): boolean {
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

import { once } from 'node:events';
import { createServer, request as httpRequest, Agent } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { S3Credentials } from '../../../core/storage/credentials.ts';
import { signedWithout } from './s3-resign.ts';

/** A response that the proxy sends instead of the server. */
export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** The response of a server, with header names in lower case. */
export interface WholeAnswer {
  readonly status: number;
  readonly headers: Readonly<IncomingHttpHeaders>;
  readonly body: Uint8Array;
}

/** The fault of one request. */
export type Fault =
  /** The server does not receive the request. */
  | ({ readonly kind: 'answer' } & Answer)
  /** The connection is reset before the server receives the request. */
  | { readonly kind: 'reset' }
  /** There is never a response. */
  | { readonly kind: 'hang' }
  /** The server handles the request, but the connection is reset instead of a response. */
  | { readonly kind: 'lost' }
  /** The response stops after half its body, or the connection is reset there. */
  | { readonly kind: 'half'; readonly then: 'reset' | 'hang' }
  /** The response is changed, and has no length if the length was removed. */
  | { readonly kind: 'edited'; readonly edit: (answer: WholeAnswer) => WholeAnswer }
  /** Removes these headers, as if the server ignored them, and signs the request again. */
  | {
      readonly kind: 'without';
      readonly headers: readonly string[];
      readonly credentials: S3Credentials;
    };

export interface ProxiedRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
}

export interface FaultProxy {
  /** `http://127.0.0.1:<port>`, to use instead of the server's URL. */
  readonly url: string;
  /** Every request so far. */
  readonly requests: readonly ProxiedRequest[];
  /** The number of connections to the proxy so far. */
  readonly connections: number;
  /** The number of requests beyond the limit so far. */
  readonly overLimit: number;
  /** Sets how to choose the fault of each further request; null for none. @default no faults */
  inject(decide: (request: ProxiedRequest) => Fault | null): void;
  /** Responds with `answer` to further requests beyond `perSecond` in a second. */
  limit(perSecond: number, answer: Answer): void;
  /** Delays each further request by this many milliseconds before the server receives it. */
  delay(ms: number): void;
  stop(): Promise<void>;
}

/** Returns a choice with this fault for the first `count` matching requests, and no others. */
export function firstFaults(
  count: number,
  fault: Fault,
  matches: (request: ProxiedRequest) => boolean = () => true,
): (request: ProxiedRequest) => Fault | null {
  let left = count;
  return (request) => {
    if (left === 0 || !matches(request)) return null;
    left -= 1;
    return fault;
  };
}

/**
 * Starts a proxy for the HTTP server at `origin`. It forwards everything unchanged, including `Host`, so
 * that signatures stay valid, except for the configured faults.
 */
export async function startFaultProxy(origin: string): Promise<FaultProxy> {
  const target = new URL(origin);
  const agent = new Agent({ keepAlive: true });
  const requests: ProxiedRequest[] = [];
  let decide: (request: ProxiedRequest) => Fault | null = () => null;
  let allowed: { perSecond: number; answer: Answer } | undefined;
  let delayMs = 0;
  let connections = 0;
  const recent: number[] = [];
  let refusals = 0;

  function overLimit(): Answer | null {
    if (allowed === undefined) return null;
    const now = performance.now();
    while ((recent[0] ?? now) < now - 1000) recent.shift();
    if (recent.length >= allowed.perSecond) {
      refusals += 1;
      return allowed.answer;
    }
    recent.push(now);
    return null;
  }

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const seen: ProxiedRequest = {
      method: incoming.method ?? '',
      path: incoming.url ?? '',
      headers: incoming.headers as Record<string, string | undefined>,
    };
    requests.push(seen);
    if (delayMs > 0) await sleep(delayMs);
    const refusal = overLimit();
    const fault = refusal === null ? decide(seen) : ({ kind: 'answer', ...refusal } as const);
    switch (fault?.kind) {
      case 'answer': {
        // Reads the request first, as a server does: an earlier response resets some connections.
        incoming.resume();
        await finished(incoming);
        const { status, headers = {}, body = '' } = fault;
        outgoing.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) });
        outgoing.end(seen.method === 'HEAD' ? undefined : body);
        return;
      }
      case 'reset':
        incoming.socket.resetAndDestroy();
        return;
      case 'hang':
        incoming.resume();
        return;
      case 'lost':
      case 'half':
      case 'edited':
      case 'without':
      case undefined:
        forward(seen, incoming, outgoing, fault);
    }
  }

  function forward(
    seen: ProxiedRequest,
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    fault: Extract<Fault, { kind: 'lost' | 'half' | 'edited' | 'without' }> | null | undefined,
  ): void {
    const dropped = fault?.kind === 'without' ? fault.headers : [];
    const headers = incoming.rawHeaders.flatMap((name, index, all) => {
      if (index % 2 === 1 || dropped.includes(name.toLowerCase())) return [];
      const isSignature = fault?.kind === 'without' && name.toLowerCase() === 'authorization';
      return [
        name,
        isSignature ? signedWithout(dropped, seen, fault.credentials) : all[index + 1]!,
      ];
    });
    const onward = httpRequest({
      host: target.hostname,
      port: target.port,
      method: incoming.method,
      path: incoming.url,
      headers,
      agent,
      setHost: false,
    });
    onward.on('error', () => {
      incoming.socket.destroy();
    });
    outgoing.on('close', () => {
      onward.destroy();
    });
    onward.on('response', (answer) => {
      if (fault?.kind === 'lost') {
        answer.resume();
        answer.on('end', () => {
          incoming.socket.resetAndDestroy();
        });
        return;
      }
      if (fault?.kind === 'edited') {
        sendEdited(answer, outgoing, fault.edit);
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      if (fault?.kind === 'half') sendHalf(answer, outgoing, fault.then);
      else answer.pipe(outgoing);
      answer.on('error', () => outgoing.destroy());
    });
    incoming.pipe(onward);
  }

  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => {
      incoming.socket.destroy();
    });
  });
  server.on('connection', () => {
    connections += 1;
  });
  // A reset connection is not an error of the proxy, even with data left to send.
  server.on('clientError', (_, socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    get overLimit() {
      return refusals;
    },
    get connections() {
      return connections;
    },
    inject(next) {
      decide = next;
    },
    limit(perSecond, answer) {
      allowed = { perSecond, answer };
    },
    delay(ms) {
      delayMs = ms;
    },
    async stop() {
      agent.destroy();
      server.close();
      server.closeAllConnections();
      await once(server, 'close').catch(() => undefined);
    },
  };
}

function sendHalf(answer: IncomingMessage, outgoing: ServerResponse, then: 'reset' | 'hang'): void {
  const chunks: Buffer[] = [];
  answer.on('data', (chunk: Buffer) => chunks.push(chunk));
  answer.on('end', () => {
    const body = Buffer.concat(chunks);
    outgoing.write(body.subarray(0, Math.floor(body.length / 2)), () => {
      // Waits until the client has received the half: a reset would overtake it.
      if (then === 'reset') setTimeout(() => outgoing.socket?.resetAndDestroy(), 20);
    });
    if (body.length < 2) outgoing.flushHeaders();
  });
}

function sendEdited(
  answer: IncomingMessage,
  outgoing: ServerResponse,
  edit: (answer: WholeAnswer) => WholeAnswer,
): void {
  const chunks: Buffer[] = [];
  answer.on('data', (chunk: Buffer) => chunks.push(chunk));
  answer.on('end', () => {
    const body = Buffer.concat(chunks);
    const edited = edit({ status: answer.statusCode ?? 502, headers: answer.headers, body });
    outgoing.writeHead(edited.status, edited.headers);
    outgoing.end(edited.body);
  });
}

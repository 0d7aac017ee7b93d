import { once } from 'node:events';
import { createServer, request as httpRequest, Agent } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { S3Credentials } from '../../../core/storage/credentials.ts';
import { signedWithout } from './s3-resign.ts';

/** An answer that the proxy gives in the server's stead. */
export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** What a server answered, its headers in lower case. */
export interface WholeAnswer {
  readonly status: number;
  readonly headers: Readonly<IncomingHttpHeaders>;
  readonly body: Uint8Array;
}

/** What goes wrong with one request. */
export type Fault =
  /** The server hears nothing of it. */
  | ({ readonly kind: 'answer' } & Answer)
  /** The connection is reset before the server hears of it. */
  | { readonly kind: 'reset' }
  /** Nothing is ever answered. */
  | { readonly kind: 'hang' }
  /** The server does what is asked, and the connection is reset instead of the answer. */
  | { readonly kind: 'lost' }
  /** The answer's head and half its body come, then the connection is reset, or nothing more. */
  | { readonly kind: 'half'; readonly then: 'reset' | 'hang' }
  /** The answer comes otherwise than the server gave it; without a length if it has none any more. */
  | { readonly kind: 'edited'; readonly edit: (answer: WholeAnswer) => WholeAnswer }
  /** The server is asked without these headers, as one that ignores them; signed anew. */
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
  /** `http://127.0.0.1:<port>`, to be used as the server's own. */
  readonly url: string;
  /** Every request so far. */
  readonly requests: readonly ProxiedRequest[];
  /** How many connections have been made to it so far. */
  readonly connections: number;
  /** How many came beyond the limit so far. */
  readonly overLimit: number;
  /** From now on decides what goes wrong with each request; null: nothing. @default never anything */
  inject(decide: (request: ProxiedRequest) => Fault | null): void;
  /** From now on answers what comes beyond `perSecond` requests in a second with `answer`. */
  limit(perSecond: number, answer: Answer): void;
  /** From now on each request waits so long, in milliseconds, before the server hears of it. */
  delay(ms: number): void;
  stop(): Promise<void>;
}

/** The first `count` requests that `matches` fail so, and no other. */
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
 * Stands before the HTTP server at `origin` and hands everything on as it comes, `Host` included, so
 * that signatures hold; but for the faults that it is told to make.
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
        // Read first, as a server does: to answer before would reset the connection for some.
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
  // What was reset while something was still to be sent is no failure of the proxy's.
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
      // The half has to get there before the reset, which overtakes it.
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

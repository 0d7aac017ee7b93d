import type { GoogleAuth } from './google-auth.ts';
import { parseJson } from './json.ts';
import { createTransport, readJson as readJsonBody, readText } from './transport.ts';
import type { HttpResponse, Transport } from './transport.ts';

/** A request to one of Google's REST APIs. */
export interface GoogleRequest {
  readonly method: string;
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Statuses outside 200 to 299 that are not errors. */
  readonly accept?: readonly number[];
}

export interface GoogleRestOptions {
  readonly auth: GoogleAuth;
  /** The longest time without a byte in either direction, in milliseconds. @default 10,000 */
  readonly idleTimeoutMs?: number | undefined;
}

/** Sends authorized requests. Each method makes one attempt; retries are up to the caller. */
export interface GoogleRest {
  /**
   * Returns the response with its body unread.
   *
   * @throws GoogleResponseError for an unexpected status; errors of the connection and of
   *   {@link GoogleAuth.headers} as they are
   */
  send(request: GoogleRequest): Promise<HttpResponse>;
  /**
   * Posts `body` as JSON, or gets where there is none, and returns the JSON of the response.
   *
   * @throws as {@link send}, and SyntaxError for a response that is not JSON
   */
  call(url: string, body?: object, signal?: AbortSignal): Promise<unknown>;
}

/** An unexpected response of a Google API. */
export class GoogleResponseError extends Error {
  override readonly name = 'GoogleResponseError';
  /** The HTTP status. */
  readonly status: number;
  /** The name of a google.rpc.Code, as `RESOURCE_EXHAUSTED`; older APIs send none. */
  readonly rpcStatus: string | undefined;
  /** The reason that older APIs send, as `rateLimitExceeded`. */
  readonly reason: string | undefined;
  readonly headers: HttpResponse['headers'];

  /** @param body the response's, whose message is taken if it is a JSON error */
  constructor({ status, headers }: HttpResponse, body: string) {
    const { message, reason, rpcStatus } = parseError(body);
    super(message ?? `Google returned status ${status}`);
    this.status = status;
    this.reason = reason;
    this.rpcStatus = rpcStatus;
    this.headers = headers;
  }
}

/** Of a body that is read whole: a listing of 1,000 objects takes some 200 KiB. */
const maxBodyBytes = 8 * 2 ** 20;
const defaultIdleTimeoutMs = 10_000;

/** Returns a client that sends requests with the headers of `auth`. */
export function createGoogleRest(options: GoogleRestOptions): GoogleRest {
  const { auth, idleTimeoutMs = defaultIdleTimeoutMs } = options;
  const transport: Transport = createTransport(idleTimeoutMs);

  async function send(request: GoogleRequest): Promise<HttpResponse> {
    const { headers = {}, accept = [], ...rest } = request;
    const authorization = await auth.headers(rest.url, rest.signal);
    const response = await transport({
      ...rest,
      headers: { 'user-agent': 'niche', ...headers, ...authorization },
    });
    const { status } = response;
    if ((status >= 200 && status < 300) || accept.includes(status)) return response;
    throw new GoogleResponseError(response, await readText(response.body, maxBodyBytes));
  }

  return {
    send,
    async call(url, body, signal) {
      const content = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
      return readJson(
        await send({
          method: content === undefined ? 'GET' : 'POST',
          url,
          headers:
            content === undefined
              ? {}
              : {
                  'content-type': 'application/json',
                  'content-length': String(content.length),
                },
          body: content,
          signal,
        }),
      );
    },
  };
}

/**
 * Returns the JSON of a response.
 *
 * @throws SyntaxError, without the body in its message
 */
export async function readJson({ body }: HttpResponse): Promise<unknown> {
  return readJsonBody(body, maxBodyBytes);
}

function parseError(body: string): {
  readonly message?: string | undefined;
  readonly reason?: string | undefined;
  readonly rpcStatus?: string | undefined;
} {
  try {
    const { error } = parseJson(body) as {
      error?: {
        message?: unknown;
        status?: unknown;
        errors?: readonly { reason?: unknown }[];
      };
    };
    return {
      message: textOf(error?.message),
      rpcStatus: textOf(error?.status),
      reason: textOf(error?.errors?.[0]?.reason),
    };
  } catch {
    // Some responses are plain text.
    return { message: body.trim() === '' ? undefined : body.trim() };
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

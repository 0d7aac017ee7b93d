import http from 'node:http';
import type { Agent } from 'node:http';
import https from 'node:https';
import type { AuthClient, GoogleAuth as AuthLibrary } from 'google-auth-library';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import { proxyAgentFor } from './network.ts';

/** Credentials for Google's APIs. */
export interface GoogleAuth {
  /**
   * Returns the headers that authorize a request to `url`.
   *
   * @throws the errors of google-auth-library, and an Error when no token arrives in time
   */
  headers(url: string, signal?: AbortSignal): Promise<Readonly<Record<string, string>>>;
  /** Returns the project that the credentials belong to; undefined without credentials. */
  projectId(): Promise<string | undefined>;
}

/** The fields that are used of a service account's key file. */
export interface ServiceAccountKey {
  readonly client_email: string;
  readonly private_key: string;
}

export interface GoogleAuthOptions {
  /** An OAuth scope, as `https://www.googleapis.com/auth/cloudkms`. */
  readonly scope: string;
  /** @default application default credentials */
  readonly serviceAccount?: ServiceAccountKey | undefined;
}

/** To find the credentials and fetch a token, in milliseconds. */
const tokenTimeoutMs = 60_000;

/** Sends requests without credentials. */
export const anonymousGoogleAuth: GoogleAuth = {
  headers: () => Promise.resolve({}),
  projectId: () => Promise.resolve(undefined),
};

/** Returns credentials that load google-auth-library, and fetch a token, on first use. */
export function createGoogleAuth({ scope, serviceAccount }: GoogleAuthOptions): GoogleAuth {
  let loading: Promise<AuthLibrary> | undefined;

  async function load(): Promise<AuthLibrary> {
    const { GoogleAuth: Auth, JWT } = await import('google-auth-library');
    const clientOptions = { transporterOptions: { agent: agentFor } };
    if (serviceAccount === undefined) return new Auth<AuthClient>({ scopes: scope, clientOptions });
    const { client_email: email, private_key: key } = serviceAccount;
    const jwt = { email, key, scopes: [scope], ...clientOptions };
    return new Auth<AuthClient>({ authClient: new JWT(jwt) });
  }

  return {
    async headers(url, signal) {
      const library = await (loading ??= load());
      return Object.fromEntries(await inTime(library.getRequestHeaders(url), signal));
    },
    async projectId() {
      const library = await (loading ??= load());
      return inTime(library.getProjectId());
    },
  };
}

/** By itself the library would send all requests through one proxy. */
function agentFor(url: URL): Agent {
  return proxyAgentFor(url.href) ?? (url.protocol === 'https:' ? https : http).globalAgent;
}

/** Returns whether `error` means that google-auth-library found no credentials on this machine. */
export function lacksGoogleCredentials(error: unknown): boolean {
  return /could not load the default credentials|unable to detect a project id/i.test(
    messageOf(error),
  );
}

async function inTime<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
  const done = new AbortController();
  const bounds = signal === undefined ? done.signal : AbortSignal.any([signal, done.signal]);
  const timeout = sleep(tokenTimeoutMs, undefined, { signal: bounds, ref: false }).then(() => {
    throw Object.assign(new Error(`no credentials arrived within ${tokenTimeoutMs} ms`), {
      code: 'ETIMEDOUT',
    });
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    done.abort();
    timeout.catch(() => undefined);
  }
}

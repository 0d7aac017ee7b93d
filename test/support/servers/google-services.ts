import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/**
 * The services that a Google function uses, in this process: the metadata server with its identity,
 * the REST interface of Pub/Sub, and the certificates of identity tokens.
 */
export interface GoogleServices {
  /** `127.0.0.1:<port>` */
  readonly host: string;
  /** Variables of a function's environment for these services. */
  readonly env: Readonly<Record<string, string>>;
  /** Bodies of the messages in the topic `…-wake` that were not received yet. */
  readonly messages: object[];
  /** The same for the topic `…-withdrawals`. */
  readonly withdrawals: object[];
  /** Returns an identity token as Cloud Scheduler sends it. */
  identityToken(claims: Readonly<Record<string, string | number | boolean>>): string;
  stop(): Promise<void>;
}

/** The topics of the deployment. */
export const googleTopics = {
  wake: 'projects/acme/topics/niche-wake',
  withdrawals: 'projects/acme/topics/niche-withdrawals',
};

/** @param accessToken the token that the metadata server returns */
export async function startGoogleServices(accessToken: string): Promise<GoogleServices> {
  const messages: object[] = [];
  const withdrawals: object[] = [];
  const topics = new Map([
    [`/v1/${googleTopics.wake}:publish`, messages],
    [`/v1/${googleTopics.withdrawals}:publish`, withdrawals],
  ]);
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const kid = randomBytes(8).toString('hex');

  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url ?? '', 'http://google');
      const body = await text(request);
      const answer = (status: number, value: unknown): void => {
        response.writeHead(status, {
          'content-type': 'application/json',
          'metadata-flavor': 'Google',
        });
        response.end(typeof value === 'string' ? value : JSON.stringify(value));
      };
      if (url.pathname.endsWith('/service-accounts/default/token')) {
        answer(200, { access_token: accessToken, expires_in: 3599, token_type: 'Bearer' });
      } else if (url.pathname.startsWith('/computeMetadata/')) {
        answer(200, url.pathname.endsWith('universe-domain') ? 'googleapis.com' : 'acme');
      } else if (url.pathname === '/certs') {
        answer(200, { [kid]: publicKey.export({ type: 'spki', format: 'pem' }) });
      } else if (topics.has(url.pathname) && request.method === 'POST') {
        const topic = topics.get(url.pathname)!;
        const { messages: sent } = JSON.parse(body) as { messages: { data: string }[] };
        for (const { data } of sent) {
          topic.push(JSON.parse(Buffer.from(data, 'base64').toString()) as object);
        }
        answer(200, { messageIds: sent.map(() => randomBytes(6).toString('hex')) });
      } else {
        answer(404, { error: { code: 404, message: url.pathname, status: 'NOT_FOUND' } });
      }
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    messages,
    withdrawals,
    env: {
      NICHE_WAKE_TOPIC: googleTopics.wake,
      NICHE_WITHDRAWALS_TOPIC: googleTopics.withdrawals,
      GCE_METADATA_HOST: host,
      METADATA_SERVER_DETECTION: 'assume-present',
      PUBSUB_EMULATOR_HOST: host,
      NICHE_SWEEP_CERTIFICATES: `http://${host}/certs`,
    },
    identityToken(claims) {
      const now = Math.floor(Date.now() / 1000);
      const payload = {
        iss: 'https://accounts.google.com',
        sub: '1234567890',
        email_verified: true,
        iat: now,
        exp: now + 3600,
        ...claims,
      };
      const parts = [{ alg: 'RS256', kid, typ: 'JWT' }, payload].map((part) =>
        Buffer.from(JSON.stringify(part)).toString('base64url'),
      );
      const signature = sign('RSA-SHA256', Buffer.from(parts.join('.')), privateKey);
      return [...parts, signature.toString('base64url')].join('.');
    },
    async stop() {
      await new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      });
    },
  };
}

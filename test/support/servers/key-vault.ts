import { execFile } from 'node:child_process';
import {
  constants,
  createPublicKey,
  generateKeyPairSync,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';

/**
 * An Azure Key Vault with one RSA key, and the identity endpoint of App Service, in this process, as
 * the REST references of both describe them. There is no emulator.
 *
 * @see https://learn.microsoft.com/rest/api/keyvault/keys/decrypt/decrypt
 * @see https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
 */
export interface KeyVault {
  /** `https://127.0.0.1:…` */
  readonly url: string;
  readonly keyName: string;
  readonly version: string;
  /** The file with the certificate that clients must trust. */
  readonly certificate: string;
  /** Variables of a function app's environment for its identity. */
  readonly identity: Readonly<Record<string, string>>;
  /** Every successful request, as method and path. */
  readonly requests: string[];
  /** Whether it denies access, as to an identity without a role. */
  isForbidden: boolean;
  encrypt(plaintext: Uint8Array): Uint8Array;
  stop(): Promise<void>;
}

/**
 * @param folder folder for the certificate, which `openssl` creates
 * @param host host name of a real vault, which Azure's client requires; clients must load
 *   `vault-names-child.ts` to resolve it to this machine
 */
export async function startKeyVault(folder: string, host = '127.0.0.1'): Promise<KeyVault> {
  const [keyFile, certificate] = [join(folder, 'vault.key'), join(folder, 'vault.crt')];
  await promisify(execFile)('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1'],
    ...[
      '-addext',
      `subjectAltName=IP:127.0.0.1,DNS:${host}`,
      '-keyout',
      keyFile,
      '-out',
      certificate,
    ],
  ]);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 3072 });
  const [keyName, version] = ['documents', randomBytes(16).toString('hex')];
  const [token, header, client] = [12, 12, 16].map((bytes) => randomBytes(bytes).toString('hex'));
  const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
  const requests: string[] = [];

  /** @see https://learn.microsoft.com/rest/api/keyvault/keys/get-key/get-key */
  function keyBundle(): object {
    const { n, e } = createPublicKey(privateKey).export({ format: 'jwk' });
    const kid = `${vault.url}/keys/${keyName}/${version}`;
    const key_ops = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];
    const times = { created: 1_493_942_451, updated: 1_493_942_451 };
    return {
      key: { kid, kty: 'RSA-HSM', key_ops, n, e },
      attributes: { enabled: true, ...times, recoveryLevel: 'Recoverable' },
    };
  }

  async function answerVault(request: IncomingMessage): Promise<Answered> {
    const url = new URL(request.url ?? '', 'https://vault');
    if (request.headers.authorization !== `Bearer ${token}`) {
      const body = { error: { code: 'Unauthorized', message: 'AKV10000: no token' } };
      return [401, body, { 'www-authenticate': challenge }];
    }
    if (vault.isForbidden) {
      return [403, { error: { code: 'Forbidden', message: 'Caller is not authorized' } }];
    }
    const isVersioned = /^(?:7\.\d|20\d\d-\d\d-\d\d)$/.test(
      url.searchParams.get('api-version') ?? '',
    );
    const [, name, of = '', verb] =
      /^\/keys\/([^/]+)(?:\/([^/]*))?(?:\/([^/]+))?$/.exec(url.pathname) ?? [];
    const isOfKey = name === keyName && ['', version].includes(of) && isVersioned;
    if (isOfKey && request.method === 'GET' && verb === undefined) {
      requests.push(`${request.method} ${url.pathname}`);
      return [200, keyBundle()];
    }
    const isKnown = isOfKey && (verb === 'decrypt' || verb === 'encrypt');
    if (request.method !== 'POST' || !isKnown) {
      return [404, { error: { code: 'KeyNotFound', message: 'A key was not found' } }];
    }
    const { alg, value } = JSON.parse(await text(request)) as Record<string, string>;
    if (alg !== 'RSA-OAEP-256') {
      return [400, { error: { code: 'BadParameter', message: 'Property alg is invalid' } }];
    }
    const given = Buffer.from(value ?? '', 'base64url');
    const result =
      verb === 'decrypt'
        ? privateDecrypt({ key: privateKey, ...padding }, given)
        : vault.encrypt(given);
    requests.push(`${request.method} ${url.pathname}`);
    const kid = `${vault.url}/keys/${keyName}/${version}`;
    return [200, { kid, value: Buffer.from(result).toString('base64url') }];
  }

  function answerIdentity(request: IncomingMessage): Answered {
    const url = new URL(request.url ?? '', 'http://identity');
    const isGood =
      request.headers['x-identity-header'] === header &&
      url.searchParams.get('api-version') === '2019-08-01' &&
      url.searchParams.get('client_id') === client;
    if (!isGood) return [400, { statusCode: 400, message: 'bad request' }];
    const resource = url.searchParams.get('resource');
    requests.push(`token ${resource ?? ''}`);
    const expires_on = String(Math.floor(Date.now() / 1000) + 86_400);
    return [
      200,
      { access_token: token, expires_on, resource, token_type: 'Bearer', client_id: client },
    ];
  }

  const vaultServer = createHttpsServer(
    { key: await readFile(keyFile), cert: await readFile(certificate) },
    serve(answerVault),
  );
  const identityServer = createHttpServer(serve(answerIdentity));
  const vaultPort = await listen(vaultServer);
  const identityPort = await listen(identityServer);
  const vault: KeyVault = {
    url: `https://${host}:${vaultPort}`,
    ...{ keyName, version, certificate, requests, isForbidden: false },
    identity: {
      IDENTITY_ENDPOINT: `http://127.0.0.1:${identityPort}/msi/token`,
      IDENTITY_HEADER: header!,
      AZURE_CLIENT_ID: client!,
      NODE_EXTRA_CA_CERTS: certificate,
    },
    encrypt: (plaintext) =>
      publicEncrypt({ key: createPublicKey(privateKey), ...padding }, plaintext),
    async stop() {
      await Promise.all([close(vaultServer), close(identityServer)]);
    },
  };
  return vault;
}

type Answered = [status: number, body: object, headers?: Readonly<Record<string, string>>];
type Answer = (request: IncomingMessage) => Answered | Promise<Answered>;

/** The challenge in the response to a request without a token: where to get one, and for what. */
const challenge =
  'Bearer authorization="https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000", resource="https://vault.azure.net"';

function serve(answer: Answer): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    void (async () => {
      const [status, body, headers = {}] = await answer(request);
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(body));
    })();
  };
}

async function listen(server: Server | ReturnType<typeof createHttpsServer>): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

async function close(server: Server | ReturnType<typeof createHttpsServer>): Promise<void> {
  await new Promise((resolve) => {
    server.close(resolve);
    server.closeAllConnections();
  });
}

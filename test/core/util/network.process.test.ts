import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';

import { openAwsKms } from '../../../core/kms/aws.ts';
import { openAzureKeyVault } from '../../../core/kms/azure.ts';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { openHttpReader } from '../../../core/storage/http/reader.ts';
import { createGoogleAuth } from '../../../core/util/google-auth.ts';
import { configureNetwork } from '../../../core/util/network.ts';
import { createRetrier } from '../../../core/util/retry.ts';
import { createTransport, readText } from '../../../core/util/transport.ts';
import { openSqsQueue } from '../../../functions/aws/sqs-queue.ts';
import { makeCertificates } from '../../support/servers/tls-front.ts';
import { startProxy } from '../../support/servers/proxy.ts';
import { temporaryFolder } from '../../support/cache/small-cache.ts';

/** Starts a server, and returns its port. */
async function listen(t: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

const once = createRetrier({ maxAttempts: 1 });

async function get(url: string): Promise<string> {
  const { body } = await createTransport(5_000)({ method: 'GET', url, headers: {} });
  return readText(body, 1000);
}

test('requests go through the proxy, with the authorities of SSL_CERT_FILE', async (t) => {
  const { authorityFile, elsewhere } = await makeCertificates(await temporaryFolder(t));
  const plain = await listen(
    t,
    createServer((_, response) => response.end('plain')),
  );
  const secure = await listen(
    t,
    createSecureServer(elsewhere, (_, response) => response.end('secure')),
  );
  const proxy = await startProxy(t, {
    hosts: { 'plain.example': plain, 'elsewhere.example': secure },
  });
  const env = { http_proxy: proxy.url, https_proxy: proxy.url, no_proxy: 'direct.example' };
  assert.equal(configureNetwork({ ...env }), null);
  await assert.rejects(get('https://elsewhere.example/'), { code: /UNABLE_TO|SELF_SIGNED/ });
  assert.match(
    configureNetwork({ ...env, SSL_CERT_FILE: join(authorityFile, 'missing') }) ?? '',
    /SSL_CERT_FILE/,
  );
  assert.equal(configureNetwork({ ...env, SSL_CERT_FILE: '/no-cert-file.crt' }), null);
  assert.equal(
    configureNetwork({ ...env, NIX_SSL_CERT_FILE: authorityFile, SSL_CERT_FILE: '/missing' }),
    null,
  );
  assert.equal(await get('http://plain.example/x'), 'plain');
  assert.equal(await get('https://elsewhere.example/x'), 'secure');
  assert.equal(await get('https://elsewhere.example/y'), 'secure');
  assert.deepEqual(new Set(proxy.targets), new Set(['plain.example:80', 'elsewhere.example:443']));
  assert.equal(await get(`http://127.0.0.1:${plain}/`), 'plain');
  await assert.rejects(get('https://direct.example/'), { code: /ENOTFOUND|EAI_AGAIN/ });
  assert.equal(proxy.targets.filter((target) => /direct|127/.test(target)).length, 0);
  const reader = openHttpReader('https://elsewhere.example/cache');
  assert.equal((await reader.head('nix-cache-info'))?.key, 'nix-cache-info');
});

test('a proxy that requires a login gets it from its URL, and else denies the request', async (t) => {
  const { authorityFile, elsewhere } = await makeCertificates(await temporaryFolder(t));
  const port = await listen(
    t,
    createSecureServer(elsewhere, (_, response) => response.end('in')),
  );
  const proxy = await startProxy(t, { hosts: { 'elsewhere.example': port }, login: 'ci:hush' });
  configureNetwork({ https_proxy: proxy.url, SSL_CERT_FILE: authorityFile });
  await assert.rejects(openHttpReader('https://elsewhere.example').head('x'), {
    code: 'storage-denied',
    message: /proxy/,
  });
  const withLogin = proxy.url.replace('//', '//ci:hush@');
  configureNetwork({ https_proxy: withLogin, SSL_CERT_FILE: authorityFile });
  assert.equal(await get('https://elsewhere.example/'), 'in');
});

test('libraries that read no_proxy themselves find the metadata services in it', () => {
  for (const before of [{}, { no_proxy: 'a.example' }, { NO_PROXY: 'a.example' }]) {
    const env: Record<string, string> = { https_proxy: 'http://proxy.example:1', ...before };
    configureNetwork(env);
    assert.equal(env['no_proxy'], env['NO_PROXY']);
    const hosts = env['no_proxy']?.split(',') ?? [];
    // The names that gcp-metadata requests.
    for (const host of ['169.254.169.254', 'metadata.google.internal.', 'localhost']) {
      assert.ok(hosts.includes(host), host);
    }
    assert.equal(hosts.includes('a.example'), Object.keys(before).length > 0);
  }
});

test('the clients of every cloud use the proxy, but not for metadata', async (t) => {
  const proxy = await startProxy(t);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  Object.assign(process.env, {
    https_proxy: proxy.url,
    http_proxy: proxy.url,
    AWS_ACCESS_KEY_ID: 'AKIATEST',
    AWS_SECRET_ACCESS_KEY: 'secret',
    AWS_REGION: 'eu-central-1',
    AZURE_TENANT_ID: '00000000-0000-0000-0000-000000000000',
    AZURE_CLIENT_ID: '00000000-0000-0000-0000-000000000000',
    AZURE_CLIENT_SECRET: 'secret',
  });
  configureNetwork(process.env);
  const role = 'arn:aws:iam::123456789012:role/niche';
  const vaultUrl = 'https://acme.vault.azure.net';
  const attempts: readonly (readonly [host: string, send: () => Promise<unknown>])[] = [
    ['s3.eu-central-1.amazonaws.com', () => openBucket('s3://acme?region=eu-central-1').head('x')],
    [
      'sts.eu-central-1.amazonaws.com',
      () =>
        openBucket('s3://acme?region=eu-central-1', {
          credentials: { kind: 's3-role', role },
        }).head('x'),
    ],
    ['kms.eu-central-1.amazonaws.com', () => openAwsKms({ retrier: once }).publicKey('x')],
    [
      'sqs.eu-central-1.amazonaws.com',
      () => openSqsQueue('https://sqs.eu-central-1.amazonaws.com/1/queue').isEmpty(),
    ],
    [
      'acme.blob.core.windows.net',
      () => openBucket('azure://acme/cache', { credentials: { kind: 'anonymous' } }).head('x'),
    ],
    [
      'login.microsoftonline.com',
      () => openAzureKeyVault({ retrier: once }).newestVersion(vaultUrl, 'x'),
    ],
    [
      'storage.googleapis.com',
      () => openBucket('gs://acme', { credentials: { kind: 'anonymous' } }).head('x'),
    ],
    [
      'oauth2.googleapis.com',
      () =>
        createGoogleAuth({
          scope: 'https://www.googleapis.com/auth/cloudkms',
          serviceAccount: { client_email: 'ci@acme.example', private_key: pem },
        }).headers('https://cloudkms.googleapis.com'),
    ],
  ];
  await Promise.all(
    attempts.map(async ([host, send]) => {
      await assert.rejects(send(), host);
      assert.ok(
        proxy.targets.some((target) => target.endsWith(`${host}:443`)),
        `${host} is not among ${proxy.targets.join(', ')}`,
      );
    }),
  );
  assert.ok(!proxy.targets.some((target) => /^169\.254|metadata|^127/.test(target)));
});

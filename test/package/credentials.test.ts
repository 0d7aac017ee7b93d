import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';

const checkout = join(import.meta.dirname, '../..');

/*
 * SDKs import their credential providers dynamically, some of them as CommonJS. In a bundle, this
 * works only if the named exports survive.
 */
describe('the bundled SDKs find credentials', () => {
  let folder = '';

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'niche-bundle-'));
    const build = ['scripts/build.ts', join(folder, 'dist')];
    await promisify(execFile)(process.execPath, build, { cwd: checkout });
  });

  after(() => rm(folder, { recursive: true, force: true }));

  async function show(url: string, env: Readonly<Record<string, string>>): Promise<void> {
    const child = spawn(process.execPath, [join(folder, 'dist/niche.cjs'), 'show', '-u', url], {
      env: { PATH: '/usr/bin:/bin', HOME: folder, ...env },
      stdio: 'ignore',
    });
    await once(child, 'close');
  }

  it('in the metadata of an EC2 instance', async (t) => {
    const authorizations: string[] = [];
    const server = createServer(({ url = '', headers }, response) => {
      const path = '/latest/meta-data/iam/security-credentials/';
      if (url === '/latest/api/token') response.end('token');
      else if (url === path) response.end('role');
      else if (url === `${path}role`) {
        const expires = new Date(Date.now() + 3_600_000).toISOString();
        const keys = { AccessKeyId: 'ASIATEST', SecretAccessKey: 'secret', Token: 'token' };
        response.end(JSON.stringify({ Code: 'Success', Expiration: expires, ...keys }));
      } else {
        authorizations.push(headers.authorization ?? '');
        response.writeHead(403).end();
      }
    });
    const origin = await listen(t, server);
    await show(`s3://acme?region=eu-central-1&endpoint=${origin}`, {
      AWS_EC2_METADATA_SERVICE_ENDPOINT: origin,
    });
    assert.match(authorizations[0] ?? '', /Credential=ASIATEST\//);
  });

  it('from Google through a proxy', async (t) => {
    const targets: string[] = [];
    const proxy = createServer().on('connect', ({ url = '' }, socket) => {
      targets.push(url);
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    });
    const origin = await listen(t, proxy);
    const { privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    });
    const key = { client_email: 'niche@acme.example', private_key: privateKey };
    const file = join(folder, 'account.json');
    await writeFile(file, JSON.stringify({ type: 'service_account', ...key }));
    await show('gs://acme', { GOOGLE_APPLICATION_CREDENTIALS: file, HTTPS_PROXY: origin });
    // The SDK also looks for a metadata server, through the same proxy.
    assert.ok(
      targets.some((target) => target.endsWith('.googleapis.com:443')),
      targets.join(' '),
    );
  });
});

async function listen(t: TestContext, server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { openAwsKms } from '../../../core/kms/aws.ts';
import { openAzureKeyVault } from '../../../core/kms/azure.ts';
import { openGoogleKms } from '../../../core/kms/google.ts';
import { KmsError } from '../../../core/kms/kms.ts';
import type { KmsErrorReason } from '../../../core/kms/kms.ts';
import { createRetrier } from '../../../core/util/retry.ts';

const idleTimeoutMs = 100;
const secret = 'c2VjcmV0LWRhdGEta2V5';
const resource = 'projects/p/locations/l/keyRings/r/cryptoKeys/k';

/** Opens each client against one server. Returns what decrypts a data key with it. */
const clients: Record<string, (endpoint: string) => () => Promise<Uint8Array>> = {
  'AWS KMS': (endpoint) => {
    const credentials = { accessKeyId: 'id', secretAccessKey: 'key' };
    const config = { endpoint, region: 'eu-central-1', credentials };
    const kms = openAwsKms({ config, idleTimeoutMs, retrier: retrier() });
    return () => kms.decrypt('alias/x', Buffer.from('x'));
  },
  'Google Cloud KMS': (endpoint) => {
    const auth = {
      headers: () => Promise.resolve({ authorization: 'Bearer token' }),
      projectId: () => Promise.resolve(undefined),
    };
    const kms = openGoogleKms({ auth, endpoint, idleTimeoutMs, retrier: retrier() });
    return () => kms.decrypt(resource, Buffer.from('x'));
  },
  'Azure Key Vault': (vaultUrl) => {
    const credential = {
      getToken: () => Promise.resolve({ token: 'token', expiresOnTimestamp: 0 }),
    };
    const vault = openAzureKeyVault({
      credential,
      vault: vaultUrl,
      idleTimeoutMs,
      retrier: retrier(),
    });
    return () => vault.decrypt({ vaultUrl, name: 'n', version: '1' }, Buffer.from('x'));
  },
};

function retrier() {
  return createRetrier({ firstBackoffMs: 1, maxAttempts: 2, maxElapsedMs: 5_000 });
}

async function serve(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer((request, response) => {
    request.resume();
    listener(request, response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function failsWith(work: Promise<unknown>, reason: KmsErrorReason): Promise<KmsError> {
  let thrown: unknown;
  await assert.rejects(work, (error) => (thrown = error) !== undefined);
  assert.ok(thrown instanceof KmsError, String(thrown));
  assert.equal(thrown.reason, reason, thrown.message);
  assert.ok(!thrown.message.includes(secret.slice(0, 6)), thrown.message);
  assert.ok(thrown.message.length < 300 && !thrown.message.includes('\n'), thrown.message);
  return thrown;
}

const damagedBodies: readonly (readonly [name: string, body: string])[] = [
  ['an unquoted secret', `{"value":${secret}}`],
  ['a bare secret', secret],
  ['truncated JSON', `{"plaintext":"${secret}","value":"${secret}`],
  ['null', 'null'],
  ['a list', '[]'],
  ['other types', '{"plaintext":1,"value":1,"Plaintext":1}'],
  ['no base64', '{"plaintext":"?","value":"?"}'],
  ['no fields', '{}'],
  ['a huge body', `{"value":"${secret}${'x'.repeat(9 * 2 ** 20)}"`],
];

for (const [name, open] of Object.entries(clients)) {
  describe(`${name}, when it misbehaves`, () => {
    for (const [what, body] of damagedBodies) {
      it(`is unavailable after two responses with ${what}`, async (t) => {
        let requests = 0;
        const decrypt = open(
          await serve(t, (_request, response) => {
            requests += 1;
            response.writeHead(200, { 'content-type': 'application/json' }).end(body);
          }),
        );
        await failsWith(decrypt(), 'unavailable');
        assert.equal(requests, 2);
      });
    }

    it('is unavailable when it never responds', async (t) => {
      const decrypt = open(await serve(t, () => undefined));
      await failsWith(decrypt(), 'unavailable');
    });

    for (const status of [429, 503]) {
      it(`waits as long as Retry-After requires with status ${status}`, async (t) => {
        const times: number[] = [];
        const decrypt = open(
          await serve(t, (_request, response) => {
            times.push(performance.now());
            const headers = { 'retry-after': '0.4' };
            response.writeHead(times.length === 1 ? status : 403, headers).end('{}');
          }),
        );
        await assert.rejects(decrypt());
        const [first = 0, second = 0] = times;
        assert.ok(second - first >= 350, `waited ${second - first} ms`);
      });
    }

    it('sends no credentials to where a redirect points', async (t) => {
      const stolen: unknown[] = [];
      const elsewhere = await serve(t, (request, response) => {
        stolen.push(request.headers.authorization);
        response.end('{}');
      });
      for (const status of [302, 307]) {
        const decrypt = open(
          await serve(t, (_request, response) => {
            response.writeHead(status, { location: elsewhere }).end();
          }),
        );
        await failsWith(decrypt(), 'unavailable');
      }
      assert.deepEqual(stolen, []);
    });

    it('reports a refusal in one short line', async (t) => {
      const page = `<html>\n${'no '.repeat(100_000)}</html>`;
      const decrypt = open(
        await serve(t, (_request, response) => {
          const message = JSON.stringify({
            __type: 'AccessDeniedException',
            message: page,
            error: { message: page },
          });
          response.writeHead(403, { 'content-type': 'application/json' }).end(message);
        }),
      );
      await failsWith(decrypt(), 'denied');
    });
  });
}

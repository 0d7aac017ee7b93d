import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { KmsError } from '../../../core/kms/kms.ts';
import type { KmsErrorReason } from '../../../core/kms/kms.ts';
import { openAzureKeyVault } from '../../../core/kms/azure.ts';
import type { AzureKeyVault, AzureKey } from '../../../core/kms/azure.ts';
import { createRetrier } from '../../../core/util/retry.ts';

/**
 * The request and the response of the reference's example, with SOPS's algorithm.
 *
 * @see https://learn.microsoft.com/rest/api/keyvault/keys/decrypt/decrypt#examples
 */
const documented = {
  name: 'sdktestkey',
  version: '4eb68492b5f6421e835d961ad2be3155',
  apiVersion: '7.4',
  request: {
    alg: 'RSA-OAEP-256',
    value:
      'sid-4nG3FzRIFWXLXlG-FZo6H1-kzbNX5Exe0_VRqcGLuJWjI9oSofsn-2IagDsQzkpNAXv9V8aoIizelrK_14darhxaAV8OejO7Oh7spjxa7IxMVS3e-cwcLdEHzMbMfM1uFpDyRFqEUASHI0H8F1M2m1e9TUSXOVW3KMqm7cK94ZQMFvd4AYdLfmfnStMp_MqIQh4kpIkB6h2b1M3possVrLKH_l2L3uT-qFiwQlH9-dt0Cje5mrkpsYCy4hAXNFUPhIyBWAZwOQylIE2sPuopFs55lRIHpWP2CqNe-IK8tX87BRuJ_Vy3GIFxDjD5uu74scIyQCKMImB6xQ_-mQ',
  },
  response: {
    kid: 'https://myvault.vault.azure.net/keys/sdktestkey/4eb68492b5f6421e835d961ad2be3155',
    value: 'dvDmrSBpjRjtYg',
  },
} as const;

type Response = [status: number, body: object, headers?: Record<string, string>];

interface Lab {
  readonly vault: AzureKeyVault;
  readonly key: AzureKey;
  /** Method, URL, token and body of each request. */
  readonly requests: { method: string; url: string; token: string; body: unknown }[];
}

async function openLab(
  t: TestContext,
  respond: (request: number) => Response,
  getToken = (tenantId = 'home') => Promise.resolve(`token of ${tenantId}`),
): Promise<Lab> {
  const requests: Lab['requests'] = [];
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const { method = '', url = '', headers } = request;
      const token = headers.authorization ?? '';
      requests.push({ method, url, token, body: body === '' ? null : JSON.parse(body) });
      const [status, answer, more = {}] = respond(requests.length);
      response.writeHead(status, { 'content-type': 'application/json', ...more });
      response.end(JSON.stringify(answer));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const vaultUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { name, version } = documented;
  const vault = openAzureKeyVault({
    vault: vaultUrl,
    retrier: createRetrier({ firstBackoffMs: 1, maxAttempts: 3, maxElapsedMs: 2_000 }),
    credential: {
      async getToken(scopes, options = {}) {
        assert.equal(scopes, 'https://vault.azure.net/.default');
        return { token: await getToken(options.tenantId), expiresOnTimestamp: Infinity };
      },
    },
  });
  return { vault, key: { vaultUrl, name, version }, requests };
}

async function failsWith(work: Promise<unknown>, reason: KmsErrorReason): Promise<void> {
  await assert.rejects(work, (error) => error instanceof KmsError && error.reason === reason);
}

const ciphertext = Buffer.from(documented.request.value, 'base64url');
const path = `/keys/${documented.name}/${documented.version}`;

describe('Azure Key Vault', () => {
  it('decrypts and encrypts as the reference’s example', async (t) => {
    const { vault, key, requests } = await openLab(t, () => [200, documented.response]);
    for (const verb of ['decrypt', 'encrypt'] as const) {
      const result = await vault[verb](key, ciphertext);
      assert.equal(Buffer.from(result).toString('base64url'), documented.response.value);
      assert.deepEqual(requests.pop(), {
        method: 'POST',
        url: `${path}/${verb}?api-version=${documented.apiVersion}`,
        token: 'Bearer token of home',
        body: documented.request,
      });
    }
  });

  it('returns the newest version of a key', async (t) => {
    const { kid } = documented.response;
    const { vault, key, requests } = await openLab(t, () => [200, { key: { kid, kty: 'RSA' } }]);
    assert.equal(await vault.newestVersion(key.vaultUrl, key.name), documented.version);
    assert.equal(requests[0]?.url, `/keys/${key.name}?api-version=${documented.apiVersion}`);
  });

  it('requests a token of the vault’s tenant when the default one does not fit', async (t) => {
    const tenant = '00000000-0000-0000-0000-000000000000';
    const { vault, key, requests } = await openLab(t, (request) =>
      request === 1
        ? [
            401,
            {},
            {
              'www-authenticate': `Bearer authorization="https://login.microsoftonline.com/${tenant}", resource="https://vault.azure.net"`,
            },
          ]
        : [200, documented.response],
    );
    await vault.decrypt(key, ciphertext);
    assert.deepEqual(
      requests.map(({ token }) => token),
      ['Bearer token of home', `Bearer token of ${tenant}`],
    );
  });

  const failures: [KmsErrorReason, Response, number][] = [
    ['denied', [403, { error: { code: 'Forbidden', message: 'no' } }], 1],
    ['denied', [401, {}], 1],
    ['wrong-key', [404, { error: { code: 'KeyNotFound', message: 'no' } }], 1],
    ['wrong-key', [400, { error: { code: 'BadParameter', message: 'no' } }], 1],
    ['unavailable', [500, {}], 3],
    ['unavailable', [200, {}], 3],
  ];
  for (const [reason, response, count] of failures) {
    it(`is ${reason} for ${JSON.stringify(response)}`, async (t) => {
      const { vault, key, requests } = await openLab(t, () => response);
      await failsWith(vault.decrypt(key, ciphertext), reason);
      assert.equal(requests.length, count);
    });
  }

  it('retries while it throttles', async (t) => {
    const { vault, key, requests } = await openLab(t, (request) =>
      request < 6 ? [429, {}] : [200, documented.response],
    );
    await vault.decrypt(key, ciphertext);
    assert.equal(requests.length, 6);
  });

  it('distinguishes missing from denied credentials', async (t) => {
    for (const [name, reason] of [
      ['CredentialUnavailableError', 'no-credentials'],
      ['AuthenticationError', 'denied'],
    ] as const) {
      const failure = Object.assign(new Error('no'), { name });
      const { vault, key, requests } = await openLab(
        t,
        () => [200, documented.response],
        () => Promise.reject(failure),
      );
      await failsWith(vault.decrypt(key, ciphertext), reason);
      assert.equal(requests.length, 0);
    }
  });

  it('sends a token only to the allowed vault, by default to one in a domain of Azure', async () => {
    const scopes: unknown[] = [];
    const credential = {
      getToken: (scope: string | string[]) => {
        scopes.push(scope);
        return Promise.reject(new KmsError('denied', 'no more is tested here'));
      },
    };
    const decrypt = (vaultUrl: string, vault?: string | null): Promise<unknown> =>
      openAzureKeyVault({ credential, vault }).decrypt(
        { vaultUrl, name: 'n', version: '1' },
        ciphertext,
      );
    for (const foreign of [
      'https://evil.example',
      'https://acme.vault.azure.net.evil.example',
      'https://evil/acme.vault.azure.net',
      'https://evil?acme.vault.azure.net',
      'https://user@evil.vault.azure.net',
      'http://acme.vault.azure.net',
    ]) {
      await failsWith(decrypt(foreign), 'denied');
    }
    await failsWith(
      decrypt('https://other.vault.azure.net', 'https://acme.vault.azure.net'),
      'denied',
    );
    await failsWith(decrypt('https://acme.vault.azure.net', null), 'denied');
    assert.deepEqual(scopes, []);
    await failsWith(decrypt('https://acme.vault.azure.net'), 'denied');
    await failsWith(decrypt('https://acme.managedhsm.usgovcloudapi.net'), 'denied');
    assert.deepEqual(scopes, [
      'https://vault.azure.net/.default',
      'https://managedhsm.usgovcloudapi.net/.default',
    ]);
  });
});

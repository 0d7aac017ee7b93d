import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, it, type TestContext } from 'node:test';
import { anonymousGoogleAuth } from '../../../core/util/google-auth.ts';
import { createGoogleRest, readJson } from '../../../core/util/google-rest.ts';

interface Served {
  readonly status: number;
  readonly body: string;
}

async function serve(t: TestContext, { status, body }: Served) {
  const requests: { readonly incoming: IncomingMessage; readonly body: string }[] = [];
  const server = createServer((incoming, outgoing) => {
    void text(incoming).then((sent) => {
      requests.push({ incoming, body: sent });
      outgoing.writeHead(status, { 'retry-after': '7' }).end(body);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/key`, requests };
}

describe('createGoogleRest', () => {
  it('sends JSON by POST with the authorization, and returns JSON', async (t) => {
    const { url, requests } = await serve(t, { status: 200, body: '{"plaintext":"eA=="}' });
    const auth = {
      ...anonymousGoogleAuth,
      headers: (target: string) => Promise.resolve({ authorization: `Bearer for ${target}` }),
    };
    const rest = createGoogleRest({ auth });
    assert.deepEqual(await rest.call(url, { name: 'é' }), { plaintext: 'eA==' });
    const [{ incoming, body } = assert.fail('no request')] = requests;
    assert.equal(incoming.method, 'POST');
    assert.equal(incoming.headers.authorization, `Bearer for ${url}`);
    assert.equal(incoming.headers['content-type'], 'application/json');
    assert.equal(body, '{"name":"é"}');
  });

  it('uses GET when there is no body', async (t) => {
    const { url, requests } = await serve(t, { status: 200, body: '{}' });
    await createGoogleRest({ auth: anonymousGoogleAuth }).call(url);
    assert.equal(requests[0]?.incoming.method, 'GET');
    assert.equal(requests[0].incoming.headers.authorization, undefined);
  });

  it('throws unexpected statuses with the explanation in the body', async (t) => {
    const error = {
      code: 429,
      message: 'Quota exceeded.',
      status: 'RESOURCE_EXHAUSTED',
      errors: [{ reason: 'rateLimitExceeded' }],
    };
    const { url } = await serve(t, { status: 429, body: JSON.stringify({ error }) });
    const rest = createGoogleRest({ auth: anonymousGoogleAuth });
    await assert.rejects(rest.call(url), (thrown: Error & Record<string, unknown>) => {
      const { name, status, rpcStatus, reason, message, headers } = thrown;
      assert.deepEqual(
        { name, status, rpcStatus, reason, message },
        {
          name: 'GoogleResponseError',
          status: 429,
          rpcStatus: 'RESOURCE_EXHAUSTED',
          reason: 'rateLimitExceeded',
          message: 'Quota exceeded.',
        },
      );
      assert.equal((headers as Record<string, string>)['retry-after'], '7');
      return true;
    });
    const response = await rest.send({ method: 'GET', url, accept: [429] });
    assert.deepEqual(await readJson(response), { error });
  });

  it('throws plain text unchanged', async (t) => {
    const { url } = await serve(t, { status: 404, body: 'Not Found\n' });
    await assert.rejects(createGoogleRest({ auth: anonymousGoogleAuth }).call(url), {
      status: 404,
      message: 'Not Found',
      rpcStatus: undefined,
    });
  });
});

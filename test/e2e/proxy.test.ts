import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { makeSmallCache, temporaryFolder } from '../support/cache/small-cache.ts';
import { runNiche } from '../support/lab/niche-process.ts';
import { startProxy } from '../support/servers/proxy.ts';
import { requireS3 } from '../support/servers/s3-servers.ts';
import { serveFolder } from '../support/servers/static-server.ts';
import { makeCertificates, startTlsFront } from '../support/servers/tls-front.ts';

/** Variables of the host that would change the tests. */
const none = {
  ...{ http_proxy: undefined, https_proxy: undefined, HTTPS_PROXY: undefined },
  ...{ all_proxy: undefined, ALL_PROXY: undefined, no_proxy: undefined, NO_PROXY: undefined },
  ...{ SSL_CERT_FILE: undefined, NIX_SSL_CERT_FILE: undefined },
};

describe('behind a proxy that alone resolves the host', () => {
  test('niche reads a cache over HTTPS with an authority of one’s own', async (t) => {
    const cache = await makeSmallCache(t);
    const certificates = await makeCertificates(await temporaryFolder(t));
    const served = await serveFolder(cache.directory);
    const front = await startTlsFront(served.url, certificates.elsewhere);
    t.after(() => Promise.all([served.close(), front.stop()]));
    const port = Number(new URL(front.url).port);
    const proxy = await startProxy(t, { hosts: { 'elsewhere.example': port } });
    const authorities = { NIX_SSL_CERT_FILE: certificates.authorityFile };
    const show = (env: Readonly<Record<string, string>>, url = 'https://elsewhere.example') =>
      runNiche(['show', '-u', url, '--json'], { env: { ...none, ...env } });

    for (const name of ['https_proxy', 'HTTPS_PROXY', 'all_proxy']) {
      const shown = await show({ ...authorities, [name]: proxy.url });
      assert.equal(shown.status, 0, shown.stderr);
      assert.match(shown.stdout, /"small"/);
    }
    assert.ok(proxy.targets.every((target) => target === 'elsewhere.example:443'));
    const untrusted = await show({ https_proxy: proxy.url });
    assert.match(untrusted.stderr, /does not trust the authority/);
    const count = proxy.targets.length;
    const excluded = await show({ ...authorities, https_proxy: proxy.url, no_proxy: '.example' });
    assert.equal(excluded.status, 1);
    assert.equal(proxy.targets.length, count);
    const socks = { all_proxy: 'socks5://ci:hush@127.0.0.1:1' };
    const refused = await show(socks);
    assert.match(refused.stderr, /expected one with http:\/\/ or https:\/\/, got socks5:/);
    assert.doesNotMatch(refused.stderr, /hush/);
    assert.equal((await show(socks, cache.url)).status, 0);
    assert.equal((await show({ all_proxy: 'http://127.0.0.1:1' }, served.url)).status, 0);
  });

  test('niche creates and reads a cache in a bucket', async (t) => {
    const server = await requireS3(t);
    if (server === null) return;
    const { port } = new URL(server.endpoint);
    const proxy = await startProxy(t, { hosts: { 's3.example': Number(port) } });
    const url = server.url('acme', 'http://s3.example');
    const home = await temporaryFolder(t);
    const env = { ...none, ...server.env, HOME: home, http_proxy: proxy.url };
    const init = ['init', url, '--create', '--name', 'acme', '--no-upstream'];
    const made = await runNiche(init, { env });
    assert.equal(made.status, 0, made.stderr);
    const shown = await runNiche(['show', '-u', url], { env });
    assert.equal(shown.status, 0, shown.stderr);
    assert.deepEqual([...new Set(proxy.targets)], ['s3.example:80']);
  });
});

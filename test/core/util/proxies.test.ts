import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { readProxies } from '../../../core/util/proxies.ts';
import { refuses } from '../../support/assert/refuses.ts';

const proxyFor = (env: Readonly<Record<string, string>>, url: string): string | null =>
  readProxies(env).proxyFor(new URL(url));

const proxy = 'http://proxy.example:3128/';
const secure = 'https://cache.example/x';
const plain = 'http://cache.example/x';

describe('the proxy of a request', () => {
  for (const [env, url, expected] of [
    [{}, secure, null],
    [{ https_proxy: 'http://proxy.example:3128' }, secure, proxy],
    [{ HTTPS_PROXY: 'http://proxy.example:3128' }, secure, proxy],
    [
      { https_proxy: 'http://one.example:1', HTTPS_PROXY: 'http://two.example:2' },
      secure,
      'http://one.example:1/',
    ],
    [{ https_proxy: '', HTTPS_PROXY: 'proxy.example:3128' }, secure, proxy],
    [{ https_proxy: 'proxy.example:3128' }, plain, null],
    [{ http_proxy: 'proxy.example:3128' }, plain, proxy],
    [{ http_proxy: 'proxy.example:3128' }, secure, null],
    [{ HTTP_PROXY: 'proxy.example:3128' }, plain, null],
    [{ all_proxy: 'proxy.example:3128' }, secure, proxy],
    [{ ALL_PROXY: 'proxy.example:3128' }, plain, proxy],
    [{ all_proxy: 'socks5://socks.example', https_proxy: proxy }, secure, proxy],
    [{ https_proxy: 'proxy.example' }, secure, 'http://proxy.example:1080/'],
    [{ https_proxy: 'https://proxy.example' }, secure, 'https://proxy.example/'],
    [{ https_proxy: 'http://ci:hush@proxy.example:80' }, secure, 'http://ci:hush@proxy.example/'],
  ] as const) {
    test(`to ${url} with ${JSON.stringify(env)} is ${expected ?? 'none'}`, () => {
      assert.equal(proxyFor(env, url), expected);
    });
  }

  test('is one that curl knows and niche supports', () => {
    for (const all_proxy of ['socks5://socks.example:1080', 'socks4://x', 'ftp://x']) {
      refuses('usage', () => proxyFor({ all_proxy }, secure));
      assert.equal(proxyFor({ all_proxy, no_proxy: 'cache.example' }, secure), null);
    }
  });

  test('is none for hosts of no_proxy', () => {
    for (const [no_proxy, host, isDirect] of [
      ['cache.example', 'cache.example', true],
      ['cache.example', 'a.cache.example', true],
      ['.cache.example', 'cache.example', true],
      ['.cache.example', 'a.cache.example', true],
      ['Cache.Example.', 'CACHE.example.', true],
      ['cache.example', 'notcache.example', false],
      ['other.example,cache.example', 'cache.example', true],
      ['other.example cache.example', 'cache.example', true],
      ['other.example , cache.example', 'cache.example', true],
      ['*', 'cache.example', true],
      ['*.example', 'cache.example', false],
      ['example.com,*', 'cache.example', false],
      ['', 'cache.example', false],
      [',', 'cache.example', false],
      ['10.1.2.3', '10.1.2.3', true],
      ['10.1.2.3', '10.1.2.4', false],
      ['10.0.0.0/8', '10.200.1.1', true],
      ['10.0.0.0/8', '11.0.0.1', false],
      ['10.0.0.0/33', '10.0.0.1', false],
      ['.1.2.3', '10.1.2.3', false],
      ['fd00::/8', '[fd12::1]', true],
      ['[fd12::1]', '[fd12::1]', true],
      ['fd12::2', '[fd12::1]', false],
    ] as const) {
      const expected = isDirect ? null : proxy;
      for (const name of ['no_proxy', 'NO_PROXY']) {
        const env = { https_proxy: proxy, [name]: no_proxy };
        assert.equal(proxyFor(env, `https://${host}/`), expected, `${name}=${no_proxy}: ${host}`);
      }
    }
  });

  test('is none for this machine, and for hosts that give it its credentials', () => {
    for (const host of [
      ...['localhost', '127.0.0.1', '127.1.2.3', '[::1]'],
      ...['169.254.169.254', '169.254.170.2', '169.254.170.23', 'metadata.google.internal'],
      ...['[fd00:ec2::254]', '[fd00:ec2::23]', '168.63.129.16'],
    ]) {
      assert.equal(proxyFor({ all_proxy: proxy }, `http://${host}/`), null, host);
    }
  });
});

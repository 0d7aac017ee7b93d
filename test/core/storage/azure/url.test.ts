import assert from 'node:assert/strict';
import { it } from 'node:test';
import { azureAccess } from '../../../../core/storage/azure/credentials.ts';
import {
  accountUrl,
  formatAzureUrl,
  isAzureItself,
  parseAzureUrl,
} from '../../../../core/storage/azure/url.ts';

it('parses and formats the URL of a container or a prefix', () => {
  for (const [url, account, prefix] of [
    ['azure://acme/cache', 'https://acme.blob.core.windows.net', ''],
    ['azure://acme/cache/some/prefix', 'https://acme.blob.core.windows.net', 'some/prefix/'],
    [
      'azure://acme/cache?endpoint=https://acme.blob.core.chinacloudapi.cn',
      'https://acme.blob.core.chinacloudapi.cn',
      '',
    ],
    [
      'azure://devstoreaccount1/cache/x?endpoint=http://127.0.0.1:10000/devstoreaccount1',
      'http://127.0.0.1:10000/devstoreaccount1',
      'x/',
    ],
  ] as const) {
    const location = parseAzureUrl(url);
    assert.equal(formatAzureUrl(location), url);
    assert.equal(accountUrl(location), account);
    assert.equal(location.prefix, prefix);
  }
  assert.equal(formatAzureUrl(parseAzureUrl('azure://acme/cache/')), 'azure://acme/cache');
});

it('refuses a URL without a container, and shows no secret', () => {
  for (const url of [
    'azure://',
    'azure://acme',
    'azure://acme/',
    'azure://ACME/cache',
    'azure://ac/cache',
    'azure://acme/Cache',
    'azure://acme/ca--che',
    'azure://acme/cache/a b',
    'azure://acme/cache/../x?y',
    'azure://acme/cache?sv=2024&sig=s3cret',
    'azure://user:s3cret@acme/cache',
    'azure://acme/cache#s3cret',
    'azure://acme/cache?endpoint=ftp://acme',
    'azure://acme/cache?endpoint=https://user:s3cret@acme.example.org',
    'azure://acme/cache?endpoint=https://acme.example.org?sig=s3cret',
    's3://acme/cache',
  ]) {
    assert.throws(
      () => parseAzureUrl(url),
      (error: Error & { code?: string }) =>
        error.code === 'invalid-url' && !error.message.includes('s3cret'),
      url,
    );
  }
});

it('sends the machine’s identity only to Azure', () => {
  for (const [endpoint, isAzure] of [
    ['https://acme.blob.core.windows.net', true],
    ['https://acme.blob.core.usgovcloudapi.net', true],
    ['https://acme.z01.blob.storage.azure.net', true],
    ['http://acme.blob.core.windows.net', false],
    ['https://acme.blob.core.windows.net.example.org', false],
    ['https://example.org/.blob.core.windows.net', false],
  ] as const) {
    const location = parseAzureUrl(`azure://acme/cache?endpoint=${endpoint}`);
    assert.equal(isAzureItself(location), isAzure, endpoint);
    const { kind } = azureAccess(location, undefined);
    assert.equal(kind, isAzure ? 'identity' : 'anonymous', endpoint);
  }
});

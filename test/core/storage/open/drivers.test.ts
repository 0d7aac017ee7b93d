import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { drivers } from '../../../../core/storage/open/drivers.ts';
import { findDriver, openBucket } from '../../../../core/storage/open/open-bucket.ts';
import { openProvisioner } from '../../../../core/storage/open/open-provision.ts';

describe('the registry of drivers', () => {
  for (const { protocol, example } of drivers) {
    it(`opens ${example}`, () => {
      assert.ok(example.startsWith(`${protocol}//`));
      assert.equal(openBucket(example).url, example);
    });
  }

  it('finds a driver by the scheme alone, in any case', () => {
    assert.equal(findDriver('S3://acme'), findDriver('s3://other/prefix'));
    for (const url of ['s3:acme', 's3:/acme', 'ftp://acme', 'acme', '']) {
      assert.equal(findDriver(url), undefined, url);
    }
  });

  it('provisions every storage except a directory', async () => {
    for (const { protocol, example } of drivers) {
      if (protocol === 'file:') continue;
      const provisioner = await openProvisioner(example);
      assert.equal(provisioner.url, example);
      assert.match(provisioner.siblingUrl('staging'), /-staging$/);
      assert.match(provisioner.siblingUrl('private'), /-private$/);
    }
    for (const url of ['file:///srv/cache', 'ftp://acme', 's3:acme']) {
      await assert.rejects(openProvisioner(url), { code: 'invalid-url', hint: /s3:\/\/bucket/ });
    }
  });
});

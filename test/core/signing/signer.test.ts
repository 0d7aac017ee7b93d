import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { lazySigner } from '../../../core/signing/signer.ts';
import { testSigner } from '../../support/cache/kit.ts';

describe('a lazy signer', () => {
  it('opens once, at the first signature, and again after a failure', async () => {
    const signer = testSigner('acme-1');
    let opened = 0;
    const lazy = lazySigner(signer.publicKey, () => {
      opened += 1;
      return opened === 1 ? Promise.reject(new Error('down')) : Promise.resolve(signer);
    });
    assert.deepEqual([lazy.keyName, lazy.publicKey, opened], ['acme-1', signer.publicKey, 0]);
    await assert.rejects(lazy.sign('text'), /down/);
    assert.deepEqual(await lazy.sign('text'), await signer.sign('text'));
    await lazy.sign('text');
    assert.equal(opened, 2);
  });
});

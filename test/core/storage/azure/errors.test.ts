import assert from 'node:assert/strict';
import { it } from 'node:test';
import { isNicheError } from '../../../../core/errors.ts';
import { explainAzureError } from '../../../../core/storage/azure/errors.ts';

it('does not retry a blob that cannot be read, and explains why', () => {
  for (const [code, reason] of [
    ['BlobArchived', /archive tier/],
    ['BlobBeingRehydrated', /being restored/],
    ['BlobUsesCustomerSpecifiedEncryption', /a key of its writer/],
  ] as const) {
    const thrown = Object.assign(new Error(code), { statusCode: 409, code });
    const { kind, error } = explainAzureError(thrown, 'reading "x"', null);
    assert.equal(kind, 'final');
    assert.ok(isNicheError(error, 'storage-unavailable'));
    assert.match(error.message, reason);
  }
});

import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { combineSecret, splitSecret } from '../../../core/secrets/shamir.ts';
import { refuses } from '../../support/assert/refuses.ts';

const split = fc
  .record({
    secret: fc.uint8Array({ minLength: 1, maxLength: 40 }),
    parts: fc.integer({ min: 2, max: 12 }),
  })
  .chain(({ secret, parts }) =>
    fc.record({
      secret: fc.constant(secret),
      parts: fc.constant(parts),
      threshold: fc.integer({ min: 2, max: parts }),
      order: fc.shuffledSubarray([...Array(parts).keys()], { minLength: parts, maxLength: parts }),
    }),
  );

test('combines any threshold of parts, in any order', () => {
  fc.assert(
    fc.property(split, ({ secret, parts, threshold, order }) => {
      const shares = splitSecret(secret, parts, threshold);
      const chosen = order.slice(0, threshold).map((index) => shares[index]!);
      assert.deepEqual(combineSecret(chosen), secret);
      assert.deepEqual(combineSecret(order.map((index) => shares[index]!)), secret);
    }),
  );
});

test('fewer parts than the threshold yield another secret', () => {
  const secret = new Uint8Array(32).fill(7);
  const shares = splitSecret(secret, 5, 3);
  assert.notDeepEqual(combineSecret(shares.slice(0, 2)), secret);
});

test('matches a polynomial computed by hand', () => {
  // Degree 1, through (1, 0x53) and (2, 0xca). At 0 it is (2·0x53 + 1·0xca) / (1 + 2), in
  // GF(2^8) (0xa6 ^ 0xca) / 3 = 0x6c / 3 = 0x24.
  assert.deepEqual(
    combineSecret([Uint8Array.of(0x53, 1), Uint8Array.of(0xca, 2)]),
    Uint8Array.of(0x24),
  );
});

test('refuses parts of different secrets', () => {
  const [one, two] = splitSecret(Uint8Array.of(1, 2, 3), 2, 2);
  refuses('altered-secrets', () => combineSecret([one!]));
  refuses('altered-secrets', () => combineSecret([one!, one!]));
  refuses('altered-secrets', () => combineSecret([one!, two!.subarray(1)]));
  refuses('altered-secrets', () => combineSecret([one!, Uint8Array.of(1, 2, 3, 0)]));
  refuses('usage', () => splitSecret(Uint8Array.of(1), 1, 1));
  refuses('usage', () => splitSecret(Uint8Array.of(1), 3, 4));
  refuses('usage', () => splitSecret(Uint8Array.of(1), 256, 2));
  refuses('usage', () => splitSecret(new Uint8Array(), 3, 2));
});

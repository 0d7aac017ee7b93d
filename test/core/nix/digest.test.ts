import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { createDigester } from '../../../core/nix/digest.ts';

test('blake3 has the digests of the published vectors, wherever the bytes are cut', async () => {
  // From Nix's src/libutil-tests/hash.cc and draft-aumasson-blake3-00.
  const vectors = {
    abc: '6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85',
    abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq:
      'c19012cc2aaf0dc3d8e5c45a1b79114d2df42abb2a410bf54be09e891af06ff8',
    IETF: '83a2de1ee6f4e6ab686889248f4ec0cf4cc5709446a682ffd1cbb4d6165181e2',
  };
  for (const [text, expected] of Object.entries(vectors)) {
    for (const size of [1, 2, text.length]) {
      const digester = await createDigester('blake3');
      for (let at = 0; at < text.length; at += size) {
        digester.update(Buffer.from(text.slice(at, at + size)));
      }
      assert.equal(Buffer.from(digester.digest()).toString('hex'), expected);
    }
  }
});

test('digesters of the same algorithm do not share state', async () => {
  const [first, second] = await Promise.all([createDigester('blake3'), createDigester('blake3')]);
  first.update(Buffer.from('ab'));
  second.update(Buffer.from('x'));
  first.update(Buffer.from('c'));
  const digest = Buffer.from(first.digest()).toString('hex');
  assert.match(digest, /^6437b3ac/);
});

test('the other algorithms are those of node:crypto', async () => {
  for (const algorithm of ['md5', 'sha1', 'sha256', 'sha512'] as const) {
    const digester = await createDigester(algorithm);
    digester.update(Buffer.from('abc'));
    assert.deepEqual(digester.digest(), createHash(algorithm).update('abc').digest());
  }
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fingerprint } from '../../../core/nix/fingerprint.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { narHashes, sortedStorePaths, storePaths } from '../../support/lab/nix-values.ts';
import { refuses } from '../../support/assert/refuses.ts';

const data = corpus();

const info = {
  path: '/nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1',
  narHash: 'sha256:1mkvday29m2qxg1fnbv8xh9s6151bh8a2xzhh0k86j7lqhyfwibh',
  narSize: 226560,
  references: [
    '/nix/store/xcp9cav49dmsjbwdjlmkjxj10gkpx553-hello-2.10',
    '/nix/store/563528481rvhc5kxwipjmg6rqrl95mdx-glibc-2.33-56',
    '/nix/store/xcp9cav49dmsjbwdjlmkjxj10gkpx553-hello-2.10',
  ],
};

test('references are sorted and deduplicated', () => {
  assert.equal(
    fingerprint(info),
    '1;/nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello-2.12.1;sha256:1mkvday29m2qxg1fnbv8xh9s6151bh8a2xzhh0k86j7lqhyfwibh;226560;/nix/store/563528481rvhc5kxwipjmg6rqrl95mdx-glibc-2.33-56,/nix/store/xcp9cav49dmsjbwdjlmkjxj10gkpx553-hello-2.10',
  );
});

test('different path infos have different fingerprints', () => {
  const sizes = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
  fc.assert(
    fc.property(
      storePaths,
      narHashes,
      sizes,
      sortedStorePaths,
      (path, narHash, narSize, references) => {
        const text = fingerprint({ path, narHash, narSize, references: references.toReversed() });
        assert.deepEqual(text.split(';'), [
          '1',
          path,
          narHash,
          String(narSize),
          references.join(','),
        ]);
      },
    ),
  );
});

test('refuses malformed path infos', () => {
  const path = `${info.path};`;
  refuses('malformed-store-path', () => fingerprint({ ...info, path }));
  refuses('malformed-store-path', () => fingerprint({ ...info, references: [path] }));
  refuses('malformed-store-path', () => fingerprint(info, '/gnu/store'));
  refuses('malformed-hash', () => fingerprint({ ...info, narHash: 'sha256:' }));
  for (const narSize of [0, -1, 1.5, Number.NaN, 2 ** 53, 1e21]) {
    refuses('malformed-path-info', () => fingerprint({ ...info, narSize }));
  }
});

interface FingerprintCase {
  name: string;
  store_path: string;
  nar_hash: string;
  nar_size: number;
  references: string[];
  fingerprint: string | null;
}

test('the corpus: fingerprints', { skip: data === null && corpusMissing }, () => {
  const cases = JSON.parse(data!.read('narinfo/fingerprints.json').toString()) as FingerprintCase[];
  assert.ok(cases.length > 0);
  for (const found of cases) {
    const made = (): string =>
      fingerprint({
        path: found.store_path,
        narHash: found.nar_hash,
        narSize: found.nar_size,
        references: found.references,
      });
    if (found.store_path === '/nix/store/test') {
      // Not a store path by Nix's rules, although the test data has a fingerprint for it.
      refuses('malformed-store-path', made, found.name);
    } else if (found.fingerprint === null) {
      refuses('malformed-store-path', made, found.name);
    } else {
      assert.equal(made(), found.fingerprint, found.name);
    }
  }
});

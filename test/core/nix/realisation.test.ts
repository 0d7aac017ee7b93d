import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { parseSecretKey, signFingerprint } from '../../../core/nix/keys.ts';
import {
  canonicalRealisation,
  isRealisationKey,
  isRealisationName,
  parsePrintedRealisations,
  parseRealisationValue,
  realisationHash,
  realisationLayouts,
  realisationName,
  storedFingerprint,
} from '../../../core/nix/realisation.ts';
import type { Realisation } from '../../../core/nix/realisation.ts';
import { refuses } from '../../support/assert/refuses.ts';

const [hashed, traced] = realisationLayouts;
const storeDir = '/nix/store';
const hash = 'g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q';

/** The realisation of Nix's own test data (src/libstore-tests/data/realisation). */
const simple: Realisation = {
  drvHash: 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  drvPath: `${storeDir}/${hash}-bar.drv`,
  output: 'foo',
  outPath: `${storeDir}/${hash}-foo`,
};

describe('the layout of Nix 2.35', () => {
  // No such Nix is installed for the tests: the values are the test data that Nix 2.36 publishes.
  const secretKey = parseSecretKey(
    'test-key:tU7tTvLcScf8pmz/eTV0BEtLmRsPpZfKaRcd0nCN+pysBZPHSeg61/u2oc7mIOewfuAY1V1BiX32homTaDJ2Jw==',
  );

  test('signs what Nix signs', () => {
    const text = traced!.fingerprint(simple, storeDir);
    assert.equal(
      text,
      `{"key":{"drvPath":"${hash}-bar.drv","outputName":"foo"},"value":{"outPath":"${hash}-foo"}}`,
    );
    assert.equal(
      signFingerprint(text, secretKey),
      'test-key:WsjxK4/EI74COtzMDI+VCjQU9O4FydK0+YeY1CE5hUevogd+T+CPvNXza7oog3GTMS+ZlBwsC2S3ppwusKnJDg==',
    );
    const other = traced!.fingerprint(
      { ...simple, outPath: `${storeDir}/${hash}-foo.drv` },
      storeDir,
    );
    assert.equal(
      signFingerprint(other, secretKey),
      'test-key:ZE30UrOh26/EYvUaczjJtz6c4WcRYke6IEhDNN5TiFRF6Uu+H8lHofponlhfZxDDrCUlfstS/vtv3Xm2F6M/AA==',
    );
  });

  test('stores the value only, under the name of the derivation', () => {
    assert.equal(traced!.keyOf(simple), `build-trace-v2/${hash}-bar.drv/foo.doi`);
    const signature = `asdf:${'A'.repeat(86)}==`;
    assert.equal(
      traced!.format(simple, [signature], storeDir),
      `{"outPath":"${hash}-foo","signatures":[{"keyName":"asdf","sig":"${'A'.repeat(86)}=="}]}`,
    );
  });
});

describe('the layout up to Nix 2.34', () => {
  test('stores and signs the fields in the order of their names', () => {
    const id = `${simple.drvHash}!foo`;
    assert.equal(hashed!.keyOf(simple), `realisations/${id}.doi`);
    assert.equal(
      hashed!.fingerprint(simple, storeDir),
      `{"dependentRealisations":{},"id":"${id}","outPath":"${hash}-foo"}`,
    );
    const signatures = [`b:${'A'.repeat(86)}==`, `a:${'A'.repeat(86)}==`];
    assert.equal(
      hashed!.format(simple, signatures, storeDir),
      `{"dependentRealisations":{},"id":"${id}","outPath":"${hash}-foo","signatures":["${signatures[1]}","${signatures[0]}"]}`,
    );
  });
});

test('both layouts can be read, with signatures in either form', () => {
  const signature = `asdf:${'A'.repeat(86)}==`;
  for (const layout of realisationLayouts) {
    const text = layout.format(simple, [signature], storeDir);
    const value = { outPath: simple.outPath, signatures: [signature] };
    assert.deepEqual(parseRealisationValue(text, storeDir), value);
    const key = layout.keyOf(simple);
    assert.ok(isRealisationKey(key));
    assert.equal(storedFingerprint(key, value, storeDir), layout.fingerprint(simple, storeDir));
  }
  const unsigned = parseRealisationValue(`{"outPath":"${hash}-foo","more":[1]}`, storeDir);
  assert.deepEqual(unsigned.signatures, []);
  assert.equal(storedFingerprint('nix-cache-info', unsigned, storeDir), null);
});

test('damaged objects are refused', () => {
  const damaged = [
    '',
    'null',
    '[]',
    '{}',
    '{"outPath":1}',
    '{"outPath":"../../x"}',
    `{"outPath":"${hash}-foo","signatures":{}}`,
    `{"outPath":"${hash}-foo","signatures":[1]}`,
    `{"outPath":"${hash}-foo","signatures":[null]}`,
    `{"outPath":"${hash}-foo","signatures":["asdf:AA=="]}`,
    `{"outPath":"${hash}-foo","signatures":[{"keyName":"asdf","sig":"AA=="}]}`,
  ];
  for (const text of damaged) {
    refuses('malformed-realisation', () => parseRealisationValue(text, storeDir));
  }
});

test('a claim is brought into canonical form, or refused', () => {
  const named = { ...simple, outPath: `${storeDir}/${hash}-bar-foo` };
  assert.deepEqual(canonicalRealisation(named, storeDir), named);
  const base32 = {
    ...named,
    drvHash: 'sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s',
  };
  assert.deepEqual(canonicalRealisation(base32, storeDir).drvHash.length, 'sha256:'.length + 64);
  const out = { ...named, output: 'out', outPath: `${storeDir}/${hash}-bar` };
  assert.deepEqual(canonicalRealisation(out, storeDir), out);
  const refused: Partial<Realisation>[] = [
    { drvHash: 'sha256:00' },
    { drvHash: 'sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709' },
    { drvPath: `${storeDir}/${hash}-bar` },
    { drvPath: `/elsewhere/${hash}-bar.drv` },
    { output: '' },
    { output: '../x' },
    { output: 'a!b' },
    { output: 'dev' },
    { outPath: `${storeDir}/${hash}-other-foo` },
  ];
  for (const change of refused) {
    refuses('malformed-realisation', () => canonicalRealisation({ ...named, ...change }, storeDir));
  }
});

test('a realisation is identified by its derivation and output, not by its path', () => {
  const hashOf = (realisation: Realisation): string =>
    realisationHash(realisationName(realisation));
  const id = hashOf(simple);
  assert.match(id, /^[0-9a-df-np-sv-z]{32}$/);
  assert.equal(hashOf({ ...simple, outPath: `${storeDir}/${hash}-x` }), id);
  assert.notEqual(hashOf({ ...simple, output: 'dev' }), id);
  assert.notEqual(hashOf({ ...simple, drvPath: `${storeDir}/${hash}-baz.drv` }), id);
  assert.ok(isRealisationName(realisationName(simple)));
  assert.ok(!isRealisationName(simple.drvPath));
});

describe('what Nix prints', () => {
  const out = `${storeDir}/${hash}-foo`;

  test('is read by id up to 2.34, with the realisations of inputs up to 2.33', () => {
    const id = `${simple.drvHash}!foo`;
    const input = `${simple.drvHash}!out`;
    const printed = [
      { dependentRealisations: { [input]: `${hash}-bar` }, id, outPath: `${hash}-foo` },
      { opaquePath: `${storeDir}/${hash}-other` },
    ];
    assert.deepEqual(
      [...parsePrintedRealisations(JSON.stringify(printed), storeDir)],
      [
        [id, out],
        [input, `${storeDir}/${hash}-bar`],
      ],
    );
  });

  test('is read by derivation from 2.35', () => {
    // The form of Nix's test data, since no such Nix is installed for the tests.
    const key = { drvPath: `${hash}-bar.drv`, outputName: 'foo' };
    const printed = [{ key, value: { outPath: `${hash}-foo`, signatures: [] } }];
    assert.deepEqual(
      [...parsePrintedRealisations(JSON.stringify(printed), storeDir)],
      [[realisationName(simple), out]],
    );
  });

  test('is refused when it is damaged', () => {
    for (const text of ['', '{}', '[null]', '[{"id":"x"}]', '[{"key":{}}]', '[{"key":null}]']) {
      refuses('malformed-realisation', () => parsePrintedRealisations(text, storeDir));
    }
  });
});

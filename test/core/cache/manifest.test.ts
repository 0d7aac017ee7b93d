import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isNicheError } from '../../../core/errors.ts';
import {
  formatManifest,
  formatRealisationManifest,
  parseManifest,
  readManifest,
} from '../../../core/cache/manifest.ts';
import { manifestKey } from '../../../core/cache/layout.ts';
import { maxBatchNarBytes, maxBatchRealisations, maxManifestBytes } from '../../../core/limits.ts';
import { signFingerprint } from '../../../core/nix/keys.ts';
import { testKey } from '../../support/cache/kit.ts';
import { inventedPath } from '../../support/cache/paths.ts';
import { memoryBucket } from '../../support/buckets/memory-bucket.ts';

const storeDir = '/nix/store';
const path = inventedPath('hello');
const glibc = inventedPath('glibc');
const narHash = `sha256:${'0'.repeat(52)}`;
const signature = signFingerprint('anything', testKey('other-1', 3));
const entry = { path, narHash, narSize: 200, references: [glibc] };

function manifestOf(change: Readonly<Record<string, unknown>>, top: object = {}): string {
  return JSON.stringify({
    version: 1,
    encoding: 'none',
    paths: [{ ...entry, ...change }],
    ...top,
  });
}

/** Returns the error message, which must be safe for a terminal. */
function refusal(text: string): string {
  try {
    parseManifest(text, storeDir);
  } catch (error) {
    assert.ok(isNicheError(error), String(error));
    assert.equal(error.code, 'malformed-manifest', error.message);
    assert.doesNotMatch(error.message, /\p{Cc}/u);
    assert.ok(error.message.length < 2000, `${error.message.length} characters`);
    return error.message;
  }
  return assert.fail('expected a refusal');
}

describe('a manifest', () => {
  it('is read into canonical form', () => {
    const sri = `sha256-${Buffer.alloc(32).toString('base64')}`;
    const change = { narHash: sri, references: [path, glibc, path], signatures: [signature] };
    assert.deepEqual(parseManifest(manifestOf(change), storeDir), {
      encoding: 'none',
      paths: [
        {
          path,
          narHash,
          narSize: 200,
          references: [glibc, path].sort(),
          deriver: null,
          ca: null,
          signatures: [signature],
        },
      ],
      realisations: [],
    });
  });

  it('is refused with the reason when it is of a later version', () => {
    assert.match(refusal(manifestOf({}, { version: 2 })), /reads up to version 1: upgrade it/);
  });

  it('is written with the claims alone', () => {
    const claim = { ...entry, deriver: null, ca: null, signatures: [], ultimate: true };
    const text = formatManifest({ encoding: 'zstd', paths: [claim] });
    assert.doesNotMatch(text, /ultimate/);
    assert.deepEqual(parseManifest(text, storeDir).paths, [
      { ...entry, deriver: null, ca: null, signatures: [] },
    ]);
  });

  it('keeps an unknown kind of content address, which is rejected later', () => {
    const ca = 'fixed:git:sha1:00000000000000000000000000000000';
    assert.equal(parseManifest(manifestOf({ ca }), storeDir).paths[0]?.ca, ca);
  });

  it('has at most 1 MiB, and is missing once its batch is handled', async () => {
    const bucket = memoryBucket();
    const id = { upload: '019b76da-a800-7101-8101-010101010101', batch: 0 };
    assert.equal(await readManifest(bucket, id, storeDir), null);
    const text = manifestOf({});
    await bucket.put(manifestKey(id), Buffer.from(text.padEnd(maxManifestBytes)));
    assert.equal((await readManifest(bucket, id, storeDir))?.manifest.paths.length, 1);
    await bucket.put(manifestKey(id), Buffer.from(text.padEnd(maxManifestBytes + 1)));
    await assert.rejects(readManifest(bucket, id, storeDir), { code: 'malformed-manifest' });
  });
});

const badPaths = [
  '',
  '/nix/store',
  '/nix/store/',
  `/nix/store/../../etc/${path.slice(11)}`,
  `/nix/store/../${path.slice(11)}`,
  `${path}/../x`,
  `${path}/bin`,
  `${path}\n`,
  `${path}\0`,
  `${path}\nSig: x`,
  `${path} `,
  ` ${path}`,
  path.slice(11),
  path.toUpperCase(),
  `/gnu/store/${path.slice(11)}`,
  `/nix/store/${'e'.repeat(32)}-name`,
  `/nix/store/${'0'.repeat(32)}-`,
  `/nix/store/${'0'.repeat(32)}-.`,
  `/nix/store/${'0'.repeat(32)}-${'n'.repeat(212)}`,
  `/nix/store/${'0'.repeat(32)}-é`,
  `/nix/store/${'0'.repeat(32)}-\u001b[31mred`,
];

const notStrings = [null, 1, true, {}, [path]];

const wrong: Readonly<Record<string, readonly unknown[]>> = {
  path: [...badPaths, ...notStrings, undefined],
  deriver: [...badPaths, 1, true, {}, [path]],
  narHash: [
    ...notStrings,
    undefined,
    '',
    'sha256:',
    narHash.slice(7),
    `${narHash}\n`,
    `${narHash}0`,
    `sha256:${'e'.repeat(52)}`,
    `sha256:${'z'.repeat(52)}`,
    `sha1:${'0'.repeat(32)}`,
    `md5:${'0'.repeat(32)}`,
    'sha256-AAAA',
    `sha256-${Buffer.alloc(32).toString('base64').replace('=', '')}`,
    `sha256-${Buffer.alloc(32).toString('base64')}\nSig: x`,
  ],
  narSize: [...['200', null, true, {}, undefined, -1, 0, 1, 95, 200.5, 2 ** 53, 2 ** 64, 1e308]],
  references: [
    ...badPaths.map((bad) => [glibc, bad]),
    ...notStrings.slice(0, 4).map((bad) => [bad]),
    null,
    undefined,
    glibc,
    { 0: glibc, length: 1 },
    Array.from({ length: 10_001 }, () => glibc),
    Array.from({ length: 1_000_000 }, () => ''),
  ],
  ca: [
    ...[1, true, {}, [], 'text:sha256:', `text:sha256:${'e'.repeat(52)}`],
    ...[`fixed:r:sha256:${'0'.repeat(51)}`, `fixed:r:sha256:${'0'.repeat(52)}\n`],
  ],
  signatures: [
    ...[null, signature, {}, [1], [null], [''], ['key'], [':'], ['key:'], ['key:AAAA']],
    [`${signature}x`],
    [`${signature}\n`],
    [`${signature}\nStorePath: /nix/store/x`],
    [signature.replace('==', '')],
    [signature.replace('==', '==AA==')],
    [` ${signature}`],
    [`ke y:${signature.split(':')[1]!}`],
    Array.from({ length: 65 }, () => signature),
  ],
  unknown: [1],
  '\u001b[31m\nevil': [1],
  ['k'.repeat(100_000)]: [1],
};

describe('a hostile manifest', () => {
  for (const [field, values] of Object.entries(wrong)) {
    it(`is refused for ${JSON.stringify(field.slice(0, 20))}`, () => {
      for (const value of values) {
        const message = refusal(manifestOf({ [field]: value }));
        if (field in entry) assert.ok(message.includes(field), message);
      }
    });
  }

  it('is refused for sizes in other notations', () => {
    for (const size of ['1e400', '-0', '"200"', '2.5', '1e16', '0x70', 'NaN']) {
      refusal(manifestOf({}).replace('"narSize":200', `"narSize":${size}`));
    }
  });

  it('is refused for its other fields', () => {
    for (const top of [
      ...[{ version: 0 }, { version: 2 }, { version: '1' }, { version: undefined }],
      ...[{ encoding: 'gzip' }, { encoding: null }, { encoding: '../../none' }],
      ...[{ paths: [] }, { paths: {} }, { paths: null }, { paths: [null] }, { paths: ['x'] }],
      ...[{ paths: Array.from({ length: 257 }, () => entry) }, { extra: 1 }],
    ]) {
      refusal(manifestOf({}, top));
    }
    for (const text of ['', 'null', '[]', '"x"', '{', '\0', '{"__proto__":{"version":1}}']) {
      refusal(text);
    }
    refusal(manifestOf({}).replace('"path"', '"__proto__":{"x":1},"path"'));
    refusal('['.repeat(100_000));
  });

  it('is refused with one issue for each list of references, however long', () => {
    const bad = { references: Array.from({ length: 9999 }, () => 0) };
    const paths = Array.from({ length: 50 }, () => bad);
    assert.doesNotMatch(refusal(manifestOf({}, { paths })), /references\.0/);
    assert.match(refusal(manifestOf(bad)), /expected at most 10000 strings/);
  });

  it('is refused when it lists a path twice, or too much for one batch', () => {
    assert.match(refusal(manifestOf({}, { paths: [entry, entry] })), /twice/);
    const half = maxBatchNarBytes / 2;
    const two = [
      { ...entry, narSize: half },
      { ...entry, path: glibc, narSize: half },
    ];
    assert.equal(parseManifest(manifestOf({}, { paths: two }), storeDir).paths.length, 2);
    two[1] = { ...two[1]!, narSize: half + 1 };
    assert.match(refusal(manifestOf({}, { paths: two })), /expected at most 8388608/);
    const alone = parseManifest(manifestOf({ narSize: Number.MAX_SAFE_INTEGER }), storeDir);
    assert.equal(alone.paths[0]?.narSize, Number.MAX_SAFE_INTEGER);
  });

  it('has paths or realisations', () => {
    const realisation = {
      drvHash: `sha256:${'ab'.repeat(32)}`,
      drvPath: `${path}.drv`,
      output: 'dev',
      outPath: `${path}-dev`,
    };
    const text = formatRealisationManifest([realisation]);
    const read = parseManifest(text, storeDir);
    assert.deepEqual([read.paths, read.realisations], [[], [realisation]]);
    refusal(manifestOf({}, { realisations: [realisation] }));
    assert.match(refusal(manifestOf({}, { paths: [] })), /0 paths and 0 realisations/);
    assert.match(refusal(formatRealisationManifest([realisation, realisation])), /twice/);
    assert.match(refusal(text.replace('-dev"', '"')), /realisations\.0 of the manifest/);
    const many = Array.from({ length: maxBatchRealisations + 1 }, () => realisation);
    assert.match(refusal(formatRealisationManifest(many)), /realisations/);
    refusal(text.replace('"output"', '"more":1,"output"'));
  });
});

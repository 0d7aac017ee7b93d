import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  batchReceiptKey,
  cacheControlOf,
  contentTypeOf,
  isPublicObject,
  isUploadId,
  manifestKey,
  parseManifestKey,
  parseNarInfoKey,
  parsePendingKey,
  parseWaitingKey,
  pendingKey,
  waitingKey,
} from '../../../core/cache/layout.ts';
import { newUploadId, uploadTime } from '../../../core/cache/upload-id.ts';

const upload = '019b76da-a800-7101-8101-010101010101';
const hash = '0123456789abcdfghijklmnpqrsvwxyz';

describe('keys that trigger publishers', () => {
  it('are parsed as they are formatted', () => {
    for (const batch of [0, 1, 10, 999_999_999]) {
      assert.deepEqual(parseManifestKey(manifestKey({ upload, batch })), { upload, batch });
    }
    assert.deepEqual(parsePendingKey(pendingKey(hash, upload)), { storeHash: hash, upload });
    const waiting = { reference: hash, storeHash: hash, upload };
    assert.deepEqual(parseWaitingKey(waitingKey(waiting)), waiting);
    assert.equal(parseNarInfoKey(`${hash}.narinfo`), hash);
  });

  it('are the only keys that are parsed', () => {
    const good = `staging/${upload}/0.json`;
    for (const key of [
      ...['', 'staging/', `/${good}`, `x${good}`, `${good}\n`, `${good}x`, `${good}/`, `\n${good}`],
      ...[
        `staging/../${upload}/0.json`,
        `staging/${upload}/../0.json`,
        `staging/${upload}//0.json`,
      ],
      ...['-1', '00', '01', '1e3', '0x1', '1000000000', '٣', '', '0.0', '*', '1\0'].map(
        (batch) => `staging/${upload}/${batch}.json`,
      ),
      `staging/${upload.toUpperCase()}/0.json`,
      `staging/${upload.slice(1)}/0.json`,
      `staging/${upload}x/0.json`,
      `staging/${upload}/0.nars`,
      `staging/${upload}/0.JSON`,
      `STAGING/${upload}/0.json`,
      `prefix/${good}`,
    ]) {
      assert.equal(parseManifestKey(key), null, JSON.stringify(key));
    }
    for (const bad of [
      ...[`pending/${hash}/${upload}.ls`, `pending/${hash}/x.json`, `pending/x/${upload}.json`],
      ...[`pending/${hash}/${upload}.json\n`, `pending/../${hash}/${upload}.json`],
      ...[
        `waiting/${hash}/${hash}`,
        `waiting/${hash}/${hash}.x`,
        `waiting/${hash}/e${hash.slice(1)}.${upload}`,
      ],
    ]) {
      assert.equal(parsePendingKey(bad), null, bad);
      assert.equal(parseWaitingKey(bad), null, bad);
    }
    for (const bad of [`e${hash.slice(1)}.narinfo`, `${hash}.narinfo\n`, `x/${hash}.narinfo`]) {
      assert.equal(parseNarInfoKey(bad), null, bad);
    }
  });

  it('are never among the objects that a publisher writes', () => {
    const written = [
      ...[`${hash}.narinfo`, `${hash}.ls`, `nar/${hash}.nar.zst`, 'log/x.drv'],
      ...[`receipts/${upload}/${hash}.published.json`, `receipts/${upload}/0.rejected.json`],
      batchReceiptKey({ upload, batch: 0 }, '0011223344556677', ['published']),
      ...[pendingKey(hash, upload), `audit/2026/01/01/x.jsonl`, `attempts/${upload}/0/batch.x`],
    ];
    for (const key of written) assert.equal(parseManifestKey(key), null, key);
  });
});

describe('public keys', () => {
  it('are those that Nix needs, and none is private', () => {
    for (const key of [
      ...['nix-cache-info', 'niche.json', 'niche.client.json', `${hash}.narinfo`, `${hash}.ls`],
      ...['nar/0abc.nar.zst', 'nar/0abc-0011.nar', `log/${hash}-hello.drv`],
      `realisations/sha256:${'0a'.repeat(32)}!out.doi`,
      `build-trace-v2/${hash}-hello.drv/out.doi`,
      `debuginfo/${'0a'.repeat(20)}.debug`,
    ]) {
      assert.ok(isPublicObject(key), key);
    }
    for (const key of [
      ...['niche.signing.json', `staging/${upload}/0.json`, `receipts/${upload}/x.json`, ''],
      ...[
        `pending/${hash}/${upload}.json`,
        `blocked/${hash}`,
        'audit/x',
        'nar/',
        'nar/../x',
        'log/',
      ],
      ...['debuginfo/', 'debuginfo/0a.debug', `debuginfo/${'0a'.repeat(20)}`],
      ...['nar/a/b', 'log/a/b', `x/${hash}.narinfo`, 'niche.json\n', 'NICHE.json', '.niche.json'],
    ]) {
      assert.equal(isPublicObject(key), false, key);
    }
  });

  it('have a content type and a lifetime in caches', () => {
    assert.deepEqual(
      [
        'nix-cache-info',
        'a.narinfo',
        'nar/a.nar',
        'log/a.drv',
        'a.ls',
        'niche.json',
        'a.jsonl',
        'b',
      ].map(contentTypeOf),
      [
        ...['text/x-nix-cache-info', 'text/x-nix-narinfo', 'application/x-nix-nar'],
        ...['text/plain; charset=utf-8', 'application/json', 'application/json'],
        ...['application/x-ndjson', 'application/octet-stream'],
      ],
    );
    assert.match(cacheControlOf('nar/a.nar') ?? '', /immutable/);
    assert.match(cacheControlOf('a.ls') ?? '', /immutable/);
    assert.equal(cacheControlOf('niche.json'), 'no-cache');
    assert.equal(cacheControlOf('a.narinfo'), undefined);
  });
});

describe('an upload id', () => {
  it('is a UUIDv7 that sorts by time and contains it', () => {
    const first = newUploadId(new Date(1_700_000_000_000), Buffer.alloc(10, 0xff));
    const second = newUploadId(new Date(1_700_000_000_001), Buffer.alloc(10, 0));
    assert.equal(first, '018bcfe5-6800-7fff-bfff-ffffffffffff');
    assert.ok(first < second);
    assert.equal(uploadTime(second).getTime(), 1_700_000_000_001);
    assert.ok(isUploadId(first) && isUploadId(newUploadId()));
    assert.notEqual(newUploadId(), newUploadId());
    for (const bad of ['', `${first}\n`, first.toUpperCase(), '../x', first.slice(1)]) {
      assert.equal(isUploadId(bad), false, bad);
    }
  });
});

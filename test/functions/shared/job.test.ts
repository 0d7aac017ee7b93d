import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isJobMessage, parseJob, formatJob, jobOfEvent } from '../../../functions/shared/job.ts';
import type { Job } from '../../../functions/shared/job.ts';
import { refuses } from '../../support/assert/refuses.ts';

const upload = '0198c0de-0000-7000-8000-000000000001';
const hash = (letter: string): string => letter.repeat(32);

describe('a job', () => {
  it('parses from the message that it formats', () => {
    const text = fc.option(fc.string({ maxLength: 60 }), { nil: undefined });
    const publish = fc.record({
      kind: fc.constant('publish' as const),
      id: fc.record({ upload: fc.constant(upload), batch: fc.nat(999_999_999) }),
      origin: fc.record({
        via: fc.constantFrom('event' as const, 'sweep' as const),
        principal: text,
        sourceAddress: text,
        at: text,
      }),
    });
    const resume = fc.constant({
      kind: 'resume' as const,
      waiting: { reference: hash('a'), storeHash: hash('b'), upload },
    });
    const withdraw = fc.constant({ kind: 'withdraw' as const, storeHash: hash('c') });
    fc.assert(
      fc.property(fc.oneof(publish, resume, withdraw), (job: Job) => {
        const document: unknown = JSON.parse(JSON.stringify(formatJob(job)));
        assert.ok(isJobMessage(document));
        assert.deepEqual(
          JSON.parse(JSON.stringify(parseJob(document))),
          JSON.parse(JSON.stringify(job)),
        );
      }),
    );
  });

  const malformed: unknown[] = [
    { niche: 1 },
    { niche: 2, resume: `waiting/${hash('a')}/${hash('b')}.${upload}` },
    { niche: 1, resume: `waiting/${hash('a')}/../${upload}` },
    { niche: 1, resume: `pending/${hash('a')}/${upload}.json` },
    { niche: 1, withdraw: `blocked/${hash('a')}` },
    { niche: 1, withdraw: hash('e') },
    { niche: 1, withdraw: hash('a'), resume: `waiting/${hash('a')}/${hash('b')}.${upload}` },
    { niche: 1, publish: { upload, batch: -1, via: 'event' } },
    { niche: 1, publish: { upload: '../x', batch: 0, via: 'event' } },
    { niche: 1, publish: { upload, batch: 0, via: 'me' } },
    { niche: 1, publish: { upload, batch: 0, via: 'event', more: 1 } },
    {
      niche: 1,
      publish: { upload, batch: 0, via: 'event' },
      resume: `waiting/${hash('a')}/${hash('b')}.${upload}`,
    },
  ];
  for (const document of malformed) {
    it(`is not parsed from ${JSON.stringify(document).slice(0, 90)}`, () => {
      refuses('malformed-event', () => parseJob(document));
    });
  }

  it('is created only for a manifest of this cache', () => {
    const root = { bucket: 'private', prefix: 'nix/' };
    const event = { bucket: 'private', key: `nix/staging/${upload}/3.json`, principal: 'AWS:x' };
    assert.deepEqual(jobOfEvent(event, root), {
      kind: 'publish',
      id: { upload, batch: 3 },
      origin: {
        via: 'event',
        principal: 'AWS:x',
        sourceAddress: undefined,
        at: undefined,
        etag: undefined,
      },
    });
    const others = [
      { ...event, bucket: 'other' },
      ...[
        `staging/${upload}/3.json`,
        `nix/nix/staging/${upload}/3.json`,
        `nix/staging/${upload}/03.json`,
        `nix/staging/${upload}/3.json\n`,
        `nix/staging/${upload.toUpperCase()}/3.json`,
        `nix/staging/../receipts/${upload}/3.json`,
        `nix/staging/${upload}/3.nars`,
        `nix/receipts/${upload}/3.json`,
        `xnix/staging/${upload}/3.json`,
      ].map((key) => ({ ...event, key })),
    ];
    for (const other of others) assert.equal(jobOfEvent(other, root), null, other.key);
  });
});

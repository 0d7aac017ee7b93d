import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { describeError } from '../../../cli/ui/describe-error.ts';
import { NicheError } from '../../../core/errors.ts';
import type { Bucket } from '../../../core/storage/bucket.ts';
import { openBucket } from '../../../core/storage/open/open-bucket.ts';
import { findSecrets, writtenText } from '../../support/assert/secret-search.ts';
import { serveAnswers } from '../../support/cache/http.ts';

test('an error of niche is printed with its message and hint', () => {
  const error = new NicheError('usage', 'no cache given');
  assert.deepEqual(describeError(error, {}), ['niche: no cache given']);
  const hinted = new NicheError('usage', 'no cache given', { hint: 'pass -u URL' });
  const lines = ['niche: upload failed: no cache given', 'hint: pass -u URL'];
  assert.deepEqual(describeError(hinted, {}, 'upload failed'), lines);
});

test('any other error is printed as a bug to report', () => {
  assert.deepEqual(describeError(new TypeError('x is not a function'), {}), [
    'niche: internal error: x is not a function',
    'hint: report this bug with the output of NICHE_DEBUG=1',
  ]);
  assert.equal(describeError('thrown', { NICHE_DEBUG: '' }).length, 2);
});

test('NICHE_DEBUG adds the stack trace and the causes', () => {
  const error = new NicheError('usage', 'no cache given', { cause: new Error('the cause') });
  const text = describeError(error, { NICHE_DEBUG: '1' }).join('\n');
  assert.match(text, /describe-error\.test\.ts:\d+/);
  assert.match(text, /the cause/);
});

describe('with NICHE_DEBUG, no secret of a request is printed that the server repeats', () => {
  const secret = 'c2VjcmV0LXNlY3JldC1zZWNyZXQ';
  const opened: Record<string, (endpoint: string) => Bucket> = {
    s3: (endpoint) =>
      openBucket(`s3://acme?region=us-east-1&endpoint=${endpoint}`, {
        credentials: {
          kind: 's3',
          accessKeyId: `AKIA${secret}`,
          secretAccessKey: secret,
          sessionToken: `session-${secret}`,
        },
      }),
    'azure, SAS token': (endpoint) =>
      openBucket(`azure://acme/private?endpoint=${endpoint}/acme`, {
        credentials: { kind: 'azure', sas: `sv=2024-11-04&sp=rcl&sig=${secret}` },
      }),
    'azure, connection string': (endpoint) =>
      openBucket(`azure://acme/private?endpoint=${endpoint}/acme`, {
        credentials: {
          kind: 'azure',
          connectionString: `BlobEndpoint=${endpoint}/acme;SharedAccessSignature=sv=2024&sig=${secret}`,
        },
      }),
  };
  for (const [name, open] of Object.entries(opened)) {
    test(name, async (t) => {
      const received: string[] = [];
      const server = await serveAnswers(t, (path, response, { headers }) => {
        const request = `${path}\n${JSON.stringify(headers)}`;
        received.push(request);
        const escaped = request.replaceAll('&', '&amp;');
        response.writeHead(400, { 'content-type': 'application/xml', 'x-echo': path });
        response.end(`<Error><Code>Strange</Code><Message>${escaped}</Message></Error>`);
      });
      const error = await open(server.url)
        .list('receipts/')
        [Symbol.asyncIterator]()
        .next()
        .catch((thrown: unknown) => thrown);
      assert.ok(error instanceof NicheError);
      const printed = describeError(error, { NICHE_DEBUG: '1' }).join('\n');
      const sent = received.map((text) => writtenText('request', text));
      assert.ok(findSecrets([secret], sent).length > 0);
      assert.deepEqual(findSecrets([secret], [writtenText('printed', printed)]), []);
      const [, signature = secret] = /Signature=([0-9a-f]{64})/.exec(received.join()) ?? [];
      assert.deepEqual(findSecrets([signature], [writtenText('printed', printed)]), []);
    });
  }
});

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';

import fc from 'fast-check';

import {
  isCreation,
  isSignedByB2,
  maxEventBytes,
  parseS3Events,
  readS3Events,
} from '../../../functions/events/s3.ts';
import { isNicheError } from '../../../core/errors.ts';
import { refuses } from '../../support/assert/refuses.ts';

/** The structure that AWS documents, version 2.1. */
const s3Record = {
  eventVersion: '2.1',
  eventSource: 'aws:s3',
  awsRegion: 'us-west-2',
  eventTime: '1970-01-01T00:00:00.000Z',
  eventName: 'ObjectCreated:Put',
  userIdentity: { principalId: 'AIDAJDPLRKLG7UEXAMPLE' },
  requestParameters: { sourceIPAddress: '127.0.0.1' },
  responseElements: { 'x-amz-request-id': 'C3D13FE58DE4C810', 'x-amz-id-2': 'FMyUVURIY8' },
  s3: {
    s3SchemaVersion: '1.0',
    configurationId: 'testConfigRule',
    bucket: {
      name: 'amzn-s3-demo-bucket',
      ownerIdentity: { principalId: 'A3NL1KOZZKExample' },
      arn: 'arn:aws:s3:::amzn-s3-demo-bucket',
    },
    object: {
      key: 'HappyFace.jpg',
      size: 1024,
      eTag: 'd41d8cd98f00b204e9800998ecf8427e',
      versionId: '096fKKXTRTtl3on89fVO.nfljtsv6qko',
      sequencer: '0055AED6DCD90281E5',
    },
  },
};

/** A record with the key as it is on the wire. */
const withKey = (key: string): object => ({
  Records: [{ ...s3Record, s3: { ...s3Record.s3, object: { ...s3Record.s3.object, key } } }],
});

const manifest = 'cache/staging/01900000-0000-7000-8000-000000000000/0.json';

describe('notifications of S3', () => {
  test('without an etag, as versitygw sends them', () => {
    const object = { ...s3Record.s3.object, eTag: null };
    const body = { Records: [{ ...s3Record, s3: { ...s3Record.s3, object } }] };
    const [event] = readS3Events(body);
    assert.equal(event?.key, 'HappyFace.jpg');
    assert.ok(!('etag' in event));
  });

  test('records', () => {
    assert.deepEqual(parseS3Events(JSON.stringify({ Records: [s3Record] })), [
      {
        bucket: 'amzn-s3-demo-bucket',
        key: 'HappyFace.jpg',
        eventName: 'ObjectCreated:Put',
        size: 1024,
        principal: 'AIDAJDPLRKLG7UEXAMPLE',
        sourceAddress: '127.0.0.1',
        time: '1970-01-01T00:00:00.000Z',
        etag: 'd41d8cd98f00b204e9800998ecf8427e',
      },
    ]);
  });

  test('several records stay in their order', () => {
    const events = readS3Events({ Records: Array.from({ length: 1000 }, () => s3Record) });
    assert.equal(events.length, 1000);
  });

  test('the test event yields no events', () => {
    const body = {
      Service: 'Amazon S3',
      Event: 's3:TestEvent',
      Time: '2014-10-13T15:57:02.089Z',
      Bucket: 'bucketname',
      RequestId: '5582815E1AEA5ADF',
      HostId: '8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE',
    };
    assert.deepEqual(readS3Events(body), []);
    refuses('malformed-event', () => readS3Events({ ...body, Event: 's3:Other' }));
  });

  for (const [encoded, key] of [
    ['red+flower.jpg', 'red flower.jpg'],
    ['a%2Bb', 'a+b'],
    ['a%2Fb', 'a/b'],
    ['%E2%82%AC%C3%BC', '€ü'],
    ['100%25', '100%'],
    ['log/hello-2.12%2B1.drv', 'log/hello-2.12+1.drv'],
  ] as const) {
    test(`the key ${encoded} is ${key}`, () => {
      assert.equal(readS3Events(withKey(encoded))[0]?.key, key);
    });
  }

  for (const key of ['%', '%zz', 'a%C3', '%FF', '']) {
    test(`the key ${JSON.stringify(key)} is refused`, () => {
      refuses('malformed-event', () => readS3Events(withKey(key)));
    });
  }

  test('decodes any encoded key', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 100 }), (key) => {
        const encoded = new URLSearchParams([['', key]]).toString().slice(1);
        assert.equal(readS3Events(withKey(encoded))[0]?.key, key);
      }),
    );
  });
});

test('EventBridge: the key is not encoded', () => {
  const body = {
    version: '0',
    id: '17793124-05d4-b198-2fde-7ededc63b103',
    'detail-type': 'Object Created',
    source: 'aws.s3',
    account: '111122223333',
    time: '2021-11-12T00:00:00Z',
    region: 'ca-central-1',
    resources: ['arn:aws:s3:::amzn-s3-demo-bucket1'],
    detail: {
      version: '0',
      bucket: { name: 'amzn-s3-demo-bucket1' },
      object: {
        key: 'example+key%2F',
        size: 5,
        etag: 'b1946ac92492d2347c6235b4d2611184',
        'version-id': 'IYV3p45BT0ac8hjHg1houSdS1a.Mro8e',
        sequencer: '617f08299329d189',
      },
      'request-id': 'N4N7GDK58NMKJ12R',
      requester: '123456789012',
      'source-ip-address': '1.2.3.4',
      reason: 'PutObject',
    },
  };
  const events = readS3Events(body);
  assert.deepEqual(events, [
    {
      bucket: 'amzn-s3-demo-bucket1',
      key: 'example+key%2F',
      eventName: 'Object Created',
      size: 5,
      principal: '123456789012',
      sourceAddress: '1.2.3.4',
      time: '2021-11-12T00:00:00Z',
      etag: 'b1946ac92492d2347c6235b4d2611184',
    },
  ]);
  assert.equal(events.every(isCreation), true);
});

test('MinIO: records next to its own EventName and Key', () => {
  const body = {
    EventName: 's3:ObjectCreated:Put',
    Key: `acme-private/${manifest}`,
    Records: [
      {
        eventVersion: '2.0',
        eventSource: 'minio:s3',
        awsRegion: '',
        eventTime: '2026-01-05T12:00:00.000Z',
        eventName: 's3:ObjectCreated:Put',
        userIdentity: { principalId: 'minioadmin' },
        requestParameters: { principalId: 'minioadmin', region: '', sourceIPAddress: '127.0.0.1' },
        responseElements: { 'x-amz-request-id': '1', 'x-minio-deployment-id': '2' },
        s3: {
          s3SchemaVersion: '1.0',
          configurationId: 'Config',
          bucket: {
            name: 'acme-private',
            ownerIdentity: { principalId: 'minioadmin' },
            arn: 'arn:aws:s3:::acme-private',
          },
          object: {
            key: encodeURIComponent(manifest),
            size: 300,
            eTag: 'e',
            contentType: 'application/json',
            userMetadata: { 'content-type': 'application/json' },
            sequencer: '18',
          },
        },
        source: { host: '127.0.0.1', port: '', userAgent: 'MinIO (linux; amd64) minio-go/v7' },
      },
    ],
  };
  assert.deepEqual(readS3Events(body), [
    {
      bucket: 'acme-private',
      key: manifest,
      eventName: 's3:ObjectCreated:Put',
      size: 300,
      principal: 'minioadmin',
      sourceAddress: '127.0.0.1',
      time: '2026-01-05T12:00:00.000Z',
      etag: 'e',
    },
  ]);
});

describe('notifications of R2', () => {
  const body = {
    account: '3f4b7e3dcab231cbfdaa90a6a28bd548',
    action: 'CopyObject',
    bucket: 'my-bucket',
    object: { key: 'my-new-object', size: 65536, eTag: 'c846ff7a18f28c2e262116d6e8719ef0' },
    eventTime: '2024-05-24T19:36:44.379Z',
    copySource: { bucket: 'my-bucket', object: 'my-original-object' },
  };
  const event = {
    bucket: 'my-bucket',
    key: 'my-new-object',
    eventName: 'CopyObject',
    size: 65536,
    time: '2024-05-24T19:36:44.379Z',
    etag: 'c846ff7a18f28c2e262116d6e8719ef0',
  };

  test('one, and as forwarded in batches', () => {
    assert.deepEqual(readS3Events(body), [event]);
    assert.deepEqual(readS3Events([body, body]), [event, event]);
    assert.deepEqual(readS3Events([]), []);
  });

  test('a deletion is no creation, and has no size', () => {
    const [deleted] = readS3Events({ ...body, action: 'DeleteObject', object: { key: 'k' } });
    assert.ok(deleted);
    assert.equal(isCreation(deleted), false);
    assert.equal(isCreation(event), true);
  });

  test('refuses a batch with a malformed message', () => {
    refuses('malformed-event', () => readS3Events([body, { Records: [] }]));
  });
});

describe('notifications of B2', () => {
  const event = {
    accountId: 'e92db1923fae',
    bucketId: 'aea8c5bc362ae55070130333',
    bucketName: 'mySampleBucket',
    eventId: '05e0a3f3b1e1a2f7c9',
    eventTimestamp: 1684793309123,
    eventType: 'b2:ObjectCreated:Upload',
    eventVersion: 1,
    matchedRuleName: 'mySampleRule1',
    objectName: 'objectName.txt',
    objectSize: 10495842,
    objectVersionId:
      '4_zaea8c5bc362ae55070130333_f117c7bd5d6c6597c_d20230521_m235957_c001_v0001044_t0052_u0168',
  };
  const body = Buffer.from(JSON.stringify({ events: [event] }));

  test('its events', () => {
    const events = parseS3Events(body);
    assert.deepEqual(events, [
      {
        bucket: 'mySampleBucket',
        key: 'objectName.txt',
        eventName: 'b2:ObjectCreated:Upload',
        size: 10495842,
        time: '2023-05-22T22:08:29.123Z',
      },
    ]);
    assert.equal(events.every(isCreation), true);
  });

  test('the test event yields no events', () => {
    const tested = { ...event, eventType: 'b2:TestEvent', objectName: '', objectSize: null };
    assert.deepEqual(readS3Events({ events: [tested] }), []);
    assert.equal(readS3Events({ events: [tested, event] }).length, 1);
  });

  test('verifies its signature over the exact bytes', () => {
    const secret = 'dnZgTTRJJBdSmeIXgqTdzw7DqL3jFGv4';
    const hex = createHmac('sha256', secret).update(body).digest('hex');
    assert.equal(isSignedByB2(body, `v1=${hex}`, secret), true);
    assert.equal(isSignedByB2(body, `v1=${hex}`, `${secret}x`), false);
    assert.equal(isSignedByB2(Buffer.concat([body, Buffer.from(' ')]), `v1=${hex}`, secret), false);
    for (const signature of [undefined, '', hex, `v2=${hex}`, `v1=${hex}0`, 'v1=', `v1=${hex} `]) {
      assert.equal(isSignedByB2(body, signature, secret), false, signature);
    }
  });
});

describe('malformed notifications', () => {
  for (const text of [
    '',
    '{',
    'null',
    '1',
    '"Records"',
    '{}',
    '{"Records":[]}',
    '{"Records":[{}]}',
    '{"Records":{}}',
    '{"events":[{"eventType":"b2:ObjectCreated:Upload"}]}',
    '{"events":1}',
    '{"detail-type":"Object Created","detail":{}}',
    '{"action":"PutObject","object":{}}',
    '[1]',
  ]) {
    test(`${text || 'nothing'} is refused`, () => {
      refuses('malformed-event', () => parseS3Events(text));
    });
  }

  test('refuses a notification that is nested too deep', () => {
    const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
    refuses('malformed-event', () => parseS3Events(`{"Records":${deep}}`));
    refuses('malformed-event', () => parseS3Events(`{"Records":[{"s3":${deep}}]}`));
  });

  test('refuses a notification over the limit', () => {
    const records = Array.from({ length: 1001 }, () => s3Record);
    refuses('malformed-event', () => readS3Events({ Records: records }));
    refuses('malformed-event', () => parseS3Events(Buffer.alloc(maxEventBytes + 1, 0x20)));
  });

  test('parses or refuses any JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (document) => {
        try {
          assert.ok(Array.isArray(readS3Events(document)));
        } catch (error) {
          assert.ok(isNicheError(error, 'malformed-event'), String(error));
        }
      }),
    );
  });
});

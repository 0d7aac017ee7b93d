import { randomUUID } from 'node:crypto';

/**
 * Returns Eventarc's event for a new object, with the fields of its reference and of the framework's
 * own conformance tests.
 *
 * @see https://github.com/googleapis/google-cloudevents/blob/main/proto/google/events/cloud/storage/v1/data.proto
 */
export function finalizedEvent(
  bucket: string,
  name: string,
  generation = '1587627537231057',
): object {
  const at = new Date().toISOString();
  return {
    specversion: '1.0',
    id: randomUUID(),
    type: 'google.cloud.storage.object.v1.finalized',
    source: `//storage.googleapis.com/projects/_/buckets/${bucket}`,
    subject: `objects/${name}`,
    time: at,
    datacontenttype: 'application/json',
    data: {
      kind: 'storage#object',
      id: `${bucket}/${name}/1587627537231057`,
      selfLink: `https://www.googleapis.com/storage/v1/b/${bucket}/o/${encodeURIComponent(name)}`,
      name,
      bucket,
      generation,
      metageneration: '1',
      contentType: 'application/json',
      timeCreated: at,
      updated: at,
      storageClass: 'STANDARD',
      timeStorageClassUpdated: at,
      size: '352',
      md5Hash: 'kF8MuJ5+CTJxvyhHS1xzRg==',
      crc32c: 'rTVTeQ==',
      etag: 'CNHZkbuF/ugCEAE=',
    },
  };
}

/** Returns the wrapped body that a push subscription of Pub/Sub posts. */
export function pushBody(message: object): object {
  return {
    message: {
      data: Buffer.from(JSON.stringify(message)).toString('base64'),
      messageId: String(Math.floor(Math.random() * 1e15)),
      message_id: '136969346945',
      publishTime: new Date().toISOString(),
      publish_time: new Date().toISOString(),
    },
    subscription: 'projects/acme/subscriptions/niche-wake',
    deliveryAttempt: 1,
  };
}

/** Returns the same message as the framework passes it to a function. */
export function publishedEvent(message: object): object {
  return {
    specversion: '1.0',
    id: randomUUID(),
    type: 'google.cloud.pubsub.topic.v1.messagePublished',
    source: '//pubsub.googleapis.com/projects/acme/topics/niche-wake',
    time: new Date().toISOString(),
    datacontenttype: 'application/json',
    data: pushBody(message),
  };
}

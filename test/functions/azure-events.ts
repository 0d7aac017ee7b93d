import { randomUUID } from 'node:crypto';

/**
 * Returns Event Grid's message for a new blob, in the schema of CloudEvents, with the fields of its
 * reference.
 *
 * @see https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage
 */
export function blobCreatedEvent(
  account: string,
  container: string,
  name: string,
  eTag = '0x8D4BCC2E4835CD0',
): object {
  return {
    source: `/subscriptions/${randomUUID()}/resourceGroups/cache/providers/Microsoft.Storage/storageAccounts/${account}`,
    subject: `/blobServices/default/containers/${container}/blobs/${name}`,
    type: 'Microsoft.Storage.BlobCreated',
    time: new Date().toISOString(),
    id: randomUUID(),
    specversion: '1.0',
    data: {
      api: 'PutBlob',
      clientRequestId: randomUUID(),
      requestId: randomUUID(),
      eTag,
      contentType: 'application/json',
      contentLength: 524,
      blobType: 'BlockBlob',
      url: `https://${account}.blob.core.windows.net/${container}/${name}`,
      sequencer: '00000000000004420000000000028963',
      storageDiagnostics: { batchId: randomUUID() },
    },
  };
}

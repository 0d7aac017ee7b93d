/** What the driver takes of the SDK, in a module of its own so that all of it is loaded at once. */
export {
  AnonymousCredential,
  BlobServiceClient,
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  newPipeline,
  RestError,
  SASProtocol,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';

/** The part of the SDK that is used, and so the part that is bundled. Imported on first use. */
export {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  EncryptCommand,
  GetPublicKeyCommand,
  KMSClient,
  ScheduleKeyDeletionCommand,
  SignCommand,
} from '@aws-sdk/client-kms';
export { buildQueryString, HttpResponse } from '@smithy/core/protocols';

/**
 * What the signer uses of the SDK, and so all of it that is bundled. Imported on first use, and by
 * nothing but the signer.
 */
export {
  CreateAliasCommand,
  CreateKeyCommand,
  GetPublicKeyCommand,
  KMSClient,
  ScheduleKeyDeletionCommand,
  SignCommand,
} from '@aws-sdk/client-kms';

/** What the queue uses of the SDK, and so all of it that is bundled. Imported on first use. */
export {
  ChangeMessageVisibilityCommand,
  GetQueueAttributesCommand,
  SQSClient,
  SendMessageCommand,
} from '@aws-sdk/client-sqs';

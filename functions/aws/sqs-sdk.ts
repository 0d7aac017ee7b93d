/**
 * The part of the SDK that the queue uses, and so the part that is bundled. Imported on first use.
 */
export {
  ChangeMessageVisibilityCommand,
  GetQueueAttributesCommand,
  SQSClient,
  SendMessageCommand,
} from '@aws-sdk/client-sqs';
export { buildQueryString, HttpResponse } from '@smithy/core/protocols';

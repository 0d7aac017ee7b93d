/** The entry point of the `publish` function. */
import { createPublishHandler } from './publish-handler.ts';
import { lambdaRuntime } from './runtime.ts';

export const handler = createPublishHandler(lambdaRuntime());

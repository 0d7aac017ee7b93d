/** The entry point of the `sweep` function. */
import { lambdaRuntime } from './runtime.ts';
import { createSweepHandler } from './sweep-handler.ts';

export const handler = createSweepHandler(lambdaRuntime());

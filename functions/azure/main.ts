/** The entry of the app: the runtime loads it once and is told here of every function. */
import { app } from '@azure/functions';

import { createPoisonHandler, createPublishHandler, createSweepHandler } from './handlers.ts';
import { createAzureRuntime } from './runtime.ts';
import type { AzureRuntime } from './runtime.ts';
import { queueConnection } from './settings.ts';

let current: AzureRuntime | undefined;

/** Made by the first invocation: a setting that is wrong must be in the log of each that it fails. */
function runtime(): AzureRuntime {
  return (current ??= createAzureRuntime(process.env));
}

// Names in percent signs are settings of the app, which the runtime reads by itself.
app.storageQueue('publish', {
  queueName: '%NICHE_WORK_QUEUE%',
  connection: queueConnection,
  handler: createPublishHandler(runtime),
});

app.storageQueue('poison', {
  queueName: '%NICHE_WORK_QUEUE%-poison',
  connection: queueConnection,
  handler: createPoisonHandler(runtime),
});

app.timer('sweep', {
  schedule: '%NICHE_SWEEP_SCHEDULE%',
  handler: createSweepHandler(runtime),
});

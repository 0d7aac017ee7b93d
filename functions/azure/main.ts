/** The entry point of the app. The runtime loads it once, and each call here registers a function. */
import { app } from '@azure/functions';

import { lazily } from '../shared/invocation.ts';
import { createPoisonHandler, createPublishHandler, createSweepHandler } from './handlers.ts';
import { createAzureRuntime } from './runtime.ts';
import { queueConnection } from './settings.ts';

const runtime = lazily(() => createAzureRuntime(process.env));

// The runtime replaces names in percent signs by the app's settings.
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

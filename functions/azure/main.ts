/** The entry point of both apps. The runtime loads it once, and each call here registers a function. */
import { app } from '@azure/functions';

import { lazily } from '../shared/invocation.ts';
import { useNetworkSettings } from '../shared/network.ts';
import {
  createPoisonHandler,
  createPublishHandler,
  createSweepHandler,
  createWithdrawHandler,
} from './handlers.ts';
import { createAzureRuntime } from './runtime.ts';
import { queueConnection, readAppRole } from './settings.ts';

const runtime = lazily(() => {
  useNetworkSettings();
  return createAzureRuntime(process.env);
});
const isSweep = readAppRole(process.env) === 'sweep';

// The runtime replaces names in percent signs by the app's settings.
const queueName = isSweep ? '%NICHE_WITHDRAWALS_QUEUE%' : '%NICHE_WORK_QUEUE%';
const connection = queueConnection;

if (isSweep) {
  app.storageQueue('withdraw', { queueName, connection, handler: createWithdrawHandler(runtime) });
  app.timer('sweep', { schedule: '%NICHE_SWEEP_SCHEDULE%', handler: createSweepHandler(runtime) });
} else {
  app.storageQueue('publish', { queueName, connection, handler: createPublishHandler(runtime) });
}
app.storageQueue('poison', {
  queueName: `${queueName}-poison`,
  connection,
  handler: createPoisonHandler(runtime),
});

import { describeAdapter } from './adapter-suite.ts';
import { awsAdapter } from './aws-adapter.ts';
import { azureAdapter } from './azure-adapter.ts';
import { googleAdapter } from './google-adapter.ts';

for (const adapter of [awsAdapter, azureAdapter, googleAdapter]) describeAdapter(adapter);

/** Gets every server and tool that tests use and that is not there yet. */
import { setupAws } from './aws.ts';
import { setupNix } from './nix.ts';
import { setupS3Servers } from './s3.ts';
import { setupSops } from './sops.ts';
import { setupAzurite, setupFakeGcs } from './storage-servers.ts';
import { finishSetup } from './tools.ts';

const reports = await Promise.all([
  setupNix(),
  setupAzurite(),
  setupFakeGcs(),
  setupS3Servers(),
  setupAws(),
  setupSops(),
]);
finishSetup(reports.flat());

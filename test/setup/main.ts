/** Gets every server and tool that tests use and that is not there yet. */
import { setupAws } from './aws.ts';
import { setupAzurite } from './azurite.ts';
import { fakeGcs } from './fake-gcs.ts';
import { setupGoTool } from './go.ts';
import { setupInfra } from './infra.ts';
import { setupNix } from './nix.ts';
import { setupS3Servers } from './s3.ts';
import { setupSops } from './sops.ts';
import { finishSetup } from './tools.ts';

const reports = await Promise.all([
  setupNix(),
  setupAzurite(),
  setupS3Servers(),
  setupGoTool(fakeGcs),
  setupAws(),
  setupSops(),
  setupInfra(),
]);
finishSetup(reports.flat());

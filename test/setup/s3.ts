import { setupGoTool, type GoTool } from './go.ts';
import { finishSetup, type ToolReport } from './tools.ts';

/** An S3 server over a directory, with conditional writes, users, policies and notifications. */
export const versitygw: GoTool = {
  name: 'versitygw',
  packages: ['github.com/versity/versitygw/cmd/versitygw'],
  version: 'v1.8.0',
};

/** SeaweedFS: another S3 server with conditional writes, of another making throughout. */
export const seaweedfs: GoTool = {
  name: 'weed',
  packages: ['github.com/seaweedfs/seaweedfs/weed'],
  version: 'v0.0.0-20261109003541-7506e5f91cd6',
  replace: ['github.com/tyler-smith/go-bip39 => github.com/cosmos/go-bip39 v1.0.0'],
};

/** Real servers that speak S3; one after the other, since each of them builds on all the cores. */
export async function setupS3Servers(): Promise<ToolReport[]> {
  const reports: ToolReport[] = [];
  for (const tool of [versitygw, seaweedfs]) reports.push(await setupGoTool(tool));
  return reports;
}

if (import.meta.main) finishSetup(await setupS3Servers());

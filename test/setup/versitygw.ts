import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installTool } from './install.ts';
import { toolsFolder, type ToolReport } from './tools.ts';

const version = 'v1.8.0';

export function versitygwProgram(): string {
  return join(folder(), 'versitygw');
}

function folder(): string {
  return join(toolsFolder(), `versitygw-${version}-${process.platform}-${process.arch}`);
}

/**
 * Builds versitygw, an S3 server with policies, users and notifications, from its Go module: no
 * registry has its binary. Go checks the module's hash and uses each core once.
 */
export async function setupVersitygw(): Promise<ToolReport> {
  const needs = 'it is built from its Go module: install Go 1.26 or later';
  const versitygw = { tool: 'versitygw', version, folder: folder(), needs };
  return installTool(versitygw, async (temporary) => {
    const module = `github.com/versity/versitygw/cmd/versitygw@${version}`;
    await promisify(execFile)('go', ['install', '-ldflags=-s -w', module], {
      env: {
        ...process.env,
        GOBIN: temporary,
        GOFLAGS: '-trimpath',
        // A newer Go is not downloaded, and no C compiler is needed.
        GOTOOLCHAIN: 'local',
        CGO_ENABLED: '0',
      },
      maxBuffer: 2 ** 24,
    });
  });
}

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { requireS3 } from '../support/servers/s3-servers.ts';

const exec = promisify(execFile);
const gib = 2 ** 30;
const hugeBytes = 3 * gib;
/** An upload buffers a few parts, and Node itself uses about 60 MiB. */
const maxPeakBytes = 400 * 2 ** 20;
const child = join(import.meta.dirname, '../support/buckets/huge-object-child.ts');

interface Told {
  readonly outcome: string;
  readonly readBytes: number;
  readonly isSame: boolean;
  readonly peakBytes: number;
}

async function holds(url: string, env: Readonly<Record<string, string>>): Promise<void> {
  const { stdout } = await exec(process.execPath, [child, url, String(hugeBytes)], {
    env: { ...process.env, ...env },
  });
  const told = JSON.parse(stdout) as Told;
  assert.deepEqual(
    [told.outcome, told.readBytes, told.isSame],
    ['created', hugeBytes, true],
    stdout,
  );
  assert.ok(told.peakBytes < maxPeakBytes, stdout);
}

describe('an object of 3 GiB takes little memory', () => {
  it('in a directory', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'niche-huge-'));
    t.after(() => rm(folder, { recursive: true }));
    await holds(pathToFileURL(folder).href, {});
  });

  it('on an S3 server', async (t) => {
    const server = await requireS3(t, 'versitygw');
    if (!server) return;
    await holds(await server.emptyUrl(), server.env);
  });
});

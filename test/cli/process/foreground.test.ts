import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';

import { runForeground } from '../../../cli/process/foreground.ts';

const sh = (script: string): Promise<number> =>
  runForeground({ command: 'sh', args: ['-c', script], env: process.env, cwd: '/' });

test('returns the exit status, or 128 plus the signal number', async () => {
  assert.equal(await sh('exit 0'), 0);
  assert.equal(await sh('exit 102'), 102);
  assert.equal(await sh('kill -9 $$'), 137);
  assert.equal(await sh('kill -INT $$'), 130);
});

test('reports a command that does not exist or cannot run', async () => {
  const run = (command: string): Promise<number> =>
    runForeground({ command, args: [], env: { PATH: '/nowhere' }, cwd: '/' });
  await assert.rejects(run('no-such-command'), { code: 'not-found' });
  await assert.rejects(run('/etc/passwd'), { code: 'usage' });
});

const runner = `
import { runForeground } from '${new URL('../../../cli/process/foreground.ts', import.meta.url).href}';
const status = await runForeground({
  command: 'sh',
  args: ['-c', process.argv[1]],
  env: process.env,
  cwd: '/',
  onSignal: (signal) => console.log('told of', signal),
});
console.log('status', status);
`;

async function signalled(script: string, ...signals: NodeJS.Signals[]): Promise<string> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', runner, script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  for await (const chunk of child.stdout.setEncoding('utf8')) {
    output += chunk as string;
    if (!output.includes('ready')) continue;
    for (const signal of signals.splice(0)) child.kill(signal);
  }
  return output;
}

test('forwards signals, and waits until the command exits', async () => {
  const patient = 'trap "echo asked; exit 3" TERM; echo ready; while :; do sleep 0.05; done';
  const lines = (await signalled(patient, 'SIGTERM')).trim().split('\n').sort();
  assert.deepEqual(lines, ['asked', 'ready', 'status 3', 'told of SIGTERM']);
  const plain = 'echo ready; while :; do sleep 0.05; done';
  const interrupted = (await signalled(plain, 'SIGINT')).trim().split('\n');
  assert.deepEqual(interrupted, ['ready', 'told of SIGINT', 'status 130']);
});

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { runCommand } from '../../support/lab/command.ts';
import { startNiche } from '../../support/lab/niche-process.ts';
import type { CommandResult } from '../../support/lab/command.ts';
import { makeAgeKey, openSopsLab } from '../../support/lab/sops-lab.ts';
import type { SopsLab } from '../../support/lab/sops-lab.ts';

interface Setting {
  readonly lab: SopsLab;
  readonly cache: string;
  readonly client: { secretKey: string; recipient: string };
  readonly publisher: { secretKey: string; recipient: string };
  /** Runs a command with the keys of the client and the publisher. */
  readonly niche: (
    args: readonly string[],
    more?: { env?: Record<string, string>; input?: string },
  ) => Promise<CommandResult>;
  readonly document: (name?: string) => string;
}

async function setUp(t: TestContext): Promise<Setting> {
  const lab = await openSopsLab(t);
  const [client, publisher] = [await makeAgeKey(), await makeAgeKey()];
  const cache = join(lab.folder, 'cache');
  const runtime = join(lab.folder, 'run');
  await mkdir(runtime, { mode: 0o700 });
  const env = {
    ...lab.env,
    XDG_RUNTIME_DIR: runtime,
    SOPS_AGE_KEY: `${client.secretKey} ${publisher.secretKey}`,
  };
  const niche: Setting['niche'] = (args, more = {}) =>
    runCommand(args, { ...more, env: { ...env, ...more.env } });
  const made = await niche(
    [
      ...['init', cache, '--name', 'acme', '--no-upstream', '--age', client.recipient],
      ...['--signing-age', publisher.recipient, '--upload-credentials', '-'],
    ],
    { input: '{"kind":"s3","accessKeyId":"AKIA","secretAccessKey":"hush"}' },
  );
  assert.equal(made.status, 0, made.stderr);
  const document = (name = 'niche.client.json'): string => readFileSync(join(cache, name), 'utf8');
  return { lab, cache, client, publisher, niche, document };
}

/** An editor that runs `script` on the file. */
async function editor({ lab }: Setting, script: string): Promise<Record<string, string>> {
  const program = join(lab.folder, 'editor');
  await writeFile(program, `#!/bin/sh\nset -e\n${script}\n`);
  await chmod(program, 0o755);
  return { EDITOR: program };
}

test('show prints the recipients, and the contents without the secrets', async (t) => {
  const { niche, cache, client } = await setUp(t);
  const shown = await niche(['config', 'show', '-u', cache]);
  assert.equal(shown.status, 0, shown.stderr);
  assert.ok(shown.stdout.includes(`age:${client.recipient}`));
  assert.match(shown.stdout, /AKIA/);
  assert.doesNotMatch(shown.stdout, /hush/);
  assert.match((await niche(['config', 'show', '-u', cache, '--reveal'])).stdout, /hush/);
  const signing = await niche(['config', 'show', '--signing', '-u', cache]);
  assert.match(signing.stdout, /acme-1:/);
  const stranger = await niche(['config', 'show', '-u', cache], { env: { SOPS_AGE_KEY: '' } });
  assert.equal(stranger.status, 0);
  assert.match(stranger.stdout, /this machine cannot decrypt it/);
});

test('edit encrypts for the same recipients, and leaves no plain text', async (t) => {
  const setting = await setUp(t);
  const { niche, cache, lab, document, client } = setting;
  const seen = join(lab.folder, 'seen');
  const env = await editor(
    setting,
    `stat -c '%a %n' "$(dirname "$1")" > ${seen}; stat -c '%a' "$1" >> ${seen}; env >> ${seen}
     sed -i s/hush/another/ "$1"`,
  );
  const before = document();
  const edited = await niche(['config', 'edit', '-u', cache], { env });
  assert.equal(edited.status, 0, edited.stderr);
  assert.notEqual(document(), before);
  const shown = await niche(['config', 'show', '-u', cache, '--reveal']);
  assert.match(shown.stdout, /another/);
  assert.ok(shown.stdout.includes(client.recipient));

  const [folder = '', file = '', ...environment] = (await readFile(seen, 'utf8')).split('\n');
  assert.ok(folder.startsWith(`700 ${join(lab.folder, 'run')}/niche-edit-`), folder);
  assert.equal(file, '600');
  assert.doesNotMatch(environment.join('\n'), /AGE-SECRET/);
  assert.deepEqual(readdirSync(join(lab.folder, 'run')), []);
});

test('edit refuses an invalid document, and does not print it', async (t) => {
  const setting = await setUp(t);
  const { niche, cache, lab, document } = setting;
  const before = document();
  for (const [script, expected] of [
    [`echo '{"hush' > "$1"`, /not JSON/],
    [`sed -i s/secretAccessKey/secretAccesKey/ "$1"`, /secretAccessKey/],
    [`sed -i 's/"version": 1/"version": 2/' "$1"`, /newer|version 2/],
    ['exit 3', /exited with status 3/],
    ['true', /no changes/],
  ] as const) {
    const env = await editor(setting, script);
    const { status, stderr } = await niche(['config', 'edit', '-u', cache], { env });
    assert.equal(status, script === 'true' ? 0 : 1, stderr);
    assert.match(stderr, expected);
    assert.doesNotMatch(stderr, /hush/);
    assert.equal(document(), before);
    assert.deepEqual(readdirSync(join(lab.folder, 'run')), []);
  }
});

test('edit on a terminal lets the user edit an invalid document again', async (t) => {
  // Other systems have another program of this name, with other arguments.
  if (!String(spawnSync('script', ['--version']).stdout).includes('util-linux')) {
    t.skip('no script(1) of util-linux, which gives niche a terminal');
    return;
  }
  const setting = await setUp(t);
  const { cache, lab, niche, document, client } = setting;
  const seen = join(lab.folder, 'seen');
  // The first run removes a bracket. The second one finds the change and adds the bracket.
  const env = await editor(
    setting,
    `cat "$1" >> ${seen}; echo ---- >> ${seen}
     if grep -q another "$1"; then echo '}' >> "$1"
     else sed -i -e s/hush/another/ -e '$d' "$1"; fi`,
  );
  const main = join(import.meta.dirname, '../../../cli/main.ts');
  const edit = (input: string): string =>
    execFileSync(
      'script',
      ['-qec', `${process.execPath} ${main} config edit -u ${cache}; echo status $?`, '/dev/null'],
      {
        env: {
          ...lab.env,
          ...env,
          SOPS_AGE_KEY: client.secretKey,
          XDG_RUNTIME_DIR: join(lab.folder, 'run'),
          SHELL: '/bin/sh',
          NO_COLOR: '1',
        },
        input,
        encoding: 'utf8',
      },
    );
  const before = document();
  const refused = edit('n\n');
  assert.match(refused, /not JSON[^]*again\? \[Y\/n\]/);
  assert.match(refused, /niche\.client\.json of file:\S+ was not changed[^]*status 1/);
  assert.equal(document(), before);
  await writeFile(seen, '');

  const edited = edit('y\n');
  assert.match(edited, /wrote niche\.client\.json[^]*status 0/);
  assert.doesNotMatch(edited, /hush|"another"/);
  const shown = await niche(['config', 'show', '-u', cache, '--reveal']);
  assert.match(shown.stdout, /another/);
  const [first, second] = readFileSync(seen, 'utf8').split('----\n');
  assert.match(first!, /hush/);
  assert.match(second!, /another/);
  assert.deepEqual(readdirSync(join(lab.folder, 'run')), []);
});

test('edit refuses to replace a change that was made meanwhile', async (t) => {
  const setting = await setUp(t);
  const { niche, cache, document } = setting;
  const other = await makeAgeKey();
  const env = await editor(
    setting,
    `${process.execPath} ${join(import.meta.dirname, '../../../cli/main.ts')} config add-recipient -u ${cache} --age ${other.recipient}
     sed -i s/hush/lost/ "$1"`,
  );
  // The editor's environment has no key: the inner niche reads the key from the file.
  const keys = join(setting.lab.folder, 'keys.txt');
  await writeFile(keys, `${setting.client.secretKey}\n`);
  const edited = await niche(['config', 'edit', '-u', cache], {
    env: { ...env, SOPS_AGE_KEY_FILE: keys },
  });
  assert.equal(edited.status, 1, edited.stderr);
  assert.match(edited.stderr, /changed by someone else in the meantime/);
  assert.ok(document().includes(other.recipient));
  const shown = await niche(['config', 'show', '-u', cache, '--reveal']);
  assert.match(shown.stdout, /hush/);
});

test('edit deletes the plain text after a signal, and after a kill with the next edit', async (t) => {
  const setting = await setUp(t);
  const { cache, lab, niche } = setting;
  const run = join(lab.folder, 'run');
  const env = {
    ...lab.env,
    ...(await editor(setting, 'echo editing; exec sleep 60')),
    SOPS_AGE_KEY: setting.client.secretKey,
    XDG_RUNTIME_DIR: run,
  };
  const start = async (): Promise<Awaited<ReturnType<typeof startNiche>>> =>
    startNiche(['config', 'edit', '-u', cache], { env });
  const stopped = await start();
  assert.equal(readdirSync(run).length, 1);
  await stopEditor(stopped.process.pid);
  await stopped.stop('SIGTERM');
  assert.deepEqual(readdirSync(run), []);

  const killed = await start();
  await stopEditor(killed.process.pid, async () => killed.stop('SIGKILL'));
  assert.equal(readdirSync(run).length, 1);
  await niche(['config', 'edit', '-u', cache], { env: await editor(setting, 'true') });
  assert.deepEqual(readdirSync(run), []);
});

/** Stops the editor: it outlives niche, and keeps the output open. */
async function stopEditor(pid: number | undefined, first?: () => Promise<unknown>): Promise<void> {
  const children = readFileSync(`/proc/${pid ?? 0}/task/${pid ?? 0}/children`, 'utf8');
  const ended = first?.();
  if (ended) await sleep(100);
  for (const child of children.trim().split(' ')) {
    if (ended) process.kill(Number(child), 'SIGKILL');
    else setTimeout(() => process.kill(Number(child), 'SIGKILL'), 200);
  }
  await ended;
}

test('adds recipients, removes them with a new data key, and refuses one that could read both documents', async (t) => {
  const setting = await setUp(t);
  const { niche, cache, lab, document, publisher, client } = setting;
  const other = await makeAgeKey();
  const u = ['-u', cache];
  const added = await niche(['config', 'add-recipient', ...u, '--age', other.recipient]);
  assert.equal(added.status, 0, added.stderr);
  const asOther = { SOPS_AGE_KEY: other.secretKey };
  const shown = await niche(['config', 'show', ...u, '--reveal'], { env: asOther });
  assert.match(shown.stdout, /hush/);

  const value = (text: string): string => /"secretAccessKey": "([^"]+)"/.exec(text)?.[1] ?? '';
  const before = document();
  const removed = await niche(['config', 'remove-recipient', ...u, '--age', other.recipient]);
  assert.equal(removed.status, 0, removed.stderr);
  assert.match(removed.stderr, /create new credentials/);
  assert.notEqual(value(document()), value(before));
  const now = await niche(['config', 'show', ...u, '--reveal'], { env: asOther });
  assert.match(now.stdout, /this machine cannot decrypt it/);

  for (const [args, expected] of [
    [['add-recipient', '--age', publisher.recipient], /must not read the signing key/],
    [['add-recipient', '--signing', '--age', client.recipient], /must not read the signing key/],
    [['add-recipient', '--age', client.recipient], /already/],
    [['remove-recipient', '--age', other.recipient], /is not encrypted for/],
    [['remove-recipient', '--age', client.recipient], /no recipient left/],
    [['add-recipient'], /no recipient given/],
  ] as const) {
    const refused = await niche(['config', ...args, ...u]);
    assert.equal(refused.status, 1, refused.stderr);
    assert.match(refused.stderr, expected);
  }
  assert.equal(existsSync(join(lab.folder, 'cache/niche.signing.json')), true);
});

test('upload accepts the output of download, and refuses an undecryptable or invalid document', async (t) => {
  const { niche, cache, lab, document } = await setUp(t);
  const file = join(lab.folder, 'niche.client.json');
  const u = ['-u', cache];
  assert.equal((await niche(['config', 'download', ...u, file])).status, 0);
  assert.equal(await readFile(file, 'utf8'), document());
  assert.equal(statSync(file).isFile(), true);
  assert.equal((await niche(['config', 'upload', ...u, file])).status, 0);
  const before = document();
  await writeFile(file, before.replace(/data:./, 'data:A').replace(/data:A/, 'data:B'));
  const refused = await niche(['config', 'upload', ...u, file]);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /altered/);
  const wrong = await niche(['config', 'upload', '--signing', ...u, '-'], { input: before });
  assert.equal(wrong.status, 1);
  assert.match(wrong.stderr, /secretKeys|storage/);
  assert.equal(document(), before);
});

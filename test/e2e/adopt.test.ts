import assert from 'node:assert/strict';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';

import { openS3Bucket } from '../../core/storage/s3/driver.ts';
import { parseS3Url } from '../../core/storage/s3/url.ts';
import { createMachine, skipUnlessChroot, type Machine } from '../support/lab/e2e-machine.ts';
import { everyNix, requireNix, type NixVersion } from '../support/lab/nix-lab.ts';
import { requireS3 } from '../support/servers/s3-servers.ts';
import { readerOf, type Made } from './made.ts';

/** A machine that has built paths, and has a signing key from before niche. */
interface Former {
  readonly machine: Machine;
  readonly publicKey: string;
  readonly secretKeyFile: string;
  readonly upper: string;
  readonly apart: string;
  readonly source: string;
}

/** @returns null if the test was skipped */
async function formerMachine(t: TestContext, nix: NixVersion): Promise<Former | null> {
  const machine = await createMachine(t, { nix });
  if (skipUnlessChroot(t, machine)) return null;
  await machine.writeGraph([
    { name: 'lower', bytes: 3_000_000 },
    { name: 'upper', deps: ['lower'] },
    { name: 'apart' },
  ]);
  const build = (name: string): Promise<string> =>
    machine.output('nix-build', ['--no-out-link', '-A', name]);
  await writeFile(join(machine.work, 'source'), 'a source\n');
  const keyFile = join(machine.work, 'old.secret');
  const publicKeyFile = join(machine.work, 'old.public');
  const keyArgs = ['--generate-binary-cache-key', 'old-1', keyFile, publicKeyFile];
  await machine.output('nix-store', keyArgs);
  return {
    machine,
    secretKeyFile: keyFile,
    publicKey: (await readFile(publicKeyFile, 'utf8')).trim(),
    upper: await build('upper'),
    apart: await build('apart'),
    source: await machine.output('nix-store', ['--add', 'source']),
  };
}

/** Copies with Nix. The paths of `signed` get the signature of the former key. */
async function copyWithNix(
  { machine, secretKeyFile, upper, apart, source }: Former,
  url: string,
): Promise<void> {
  await machine.output('nix', ['copy', '--to', `${url}?secret-key=${secretKeyFile}`, upper]);
  await machine.output('nix', ['copy', '--to', url, apart, source]);
}

async function assertInstalls(t: TestContext, machine: Machine, made: Made, path: string) {
  const reader = await readerOf(t, machine, made);
  await reader.output('nix-store', ['--realise', path]);
  await reader.output('nix-store', ['--verify-path', path]);
}

const versions = everyNix();
for (const nix of versions) {
  describe(`a directory that nix copy wrote to, nix ${nix.version}`, { concurrency: false }, () => {
    test('before init: init finds its narinfos, and repair signs what can be proved', async (t) => {
      const former = await formerMachine(t, nix);
      if (!former) return;
      const { machine, upper, apart, source, publicKey } = former;
      const directory = join(machine.folder, 'moving');
      const url = pathToFileURL(directory).href;
      await copyWithNix(former, url);
      const init = ['init', url, '--name', 'acme', '--no-upstream'];
      const { stdout } = await machine.nicheDoes(init);
      assert.match(stdout, /warning: found 4 narinfos that this cache has not signed/);
      const made = JSON.parse((await machine.nicheDoes(['show', '-u', url, '--json'])).stdout) as {
        publicKeys: string[];
      };
      const cache = { substituter: url, publicKey: made.publicKeys[0] ?? '' } as Made;

      const pushed = await machine.niche(['push', '-u', url, upper]);
      assert.equal(pushed.status, 76, pushed.stderr);
      assert.match(pushed.stderr, /rejected \(unverified-narinfo\): cannot publish .*-lower/);
      assert.match(pushed.stderr, /hint: an administrator can run: niche repair -u /);
      const reader = await readerOf(t, machine, cache);
      assert.notEqual((await reader.run('nix-store', ['--realise', upper])).status, 0);

      const trust = ['repair', '-u', url, '--trust', publicKey];
      const dry = await machine.niche([...trust, '--dry-run']);
      assert.equal(dry.status, 76, dry.stderr);
      assert.match(dry.stdout, /^would sign 3 narinfos/m);
      const repaired = await machine.niche(trust);
      assert.equal(repaired.status, 76, repaired.stderr);
      assert.match(repaired.stdout, /^refused: .*-apart.* \(untrusted-path\)$/m);
      assert.match(
        repaired.stdout,
        /^signed 3 narinfos \(1 content-addressed, 2 with a trusted signature\), 0 signed before, 1 refused$/m,
      );
      await assertInstalls(t, machine, cache, upper);
      await assertInstalls(t, machine, cache, source);
      // Readers of the former key can go on.
      await assertInstalls(t, machine, { ...cache, publicKey }, upper);
      const again = await machine.nicheDoes(['push', '-u', url, upper]);
      assert.match(again.stderr, /2 paths already there/);

      await machine.nicheDoes(['repair', '-u', url, '--adopt-unsigned', apart]);
      await assertInstalls(t, machine, cache, apart);
      const audit = await machine.nicheDoes(['audit', '-u', url]);
      assert.match(audit.stdout, /adopted: signed by old-1$/m);
      assert.match(audit.stdout, /adopted: it is content-addressed$/m);
      assert.match(audit.stdout, /adopted without proof of its origin$/m);
      await machine.nicheDoes(['verify', '-u', url]);
    });

    if (nix !== versions.at(-1)) return;

    test('before init: init --adopt signs them at once', async (t) => {
      const former = await formerMachine(t, nix);
      if (!former) return;
      const { machine, upper, apart, publicKey } = former;
      const directory = join(machine.folder, 'moving');
      const url = pathToFileURL(directory).href;
      await copyWithNix(former, url);
      const adopt = ['--adopt', '--trust', publicKey, '--adopt-unsigned', '--json'];
      const ran = await machine.nicheDoes([
        ...['init', url, '--name', 'acme', '--no-upstream'],
        ...adopt,
      ]);
      const [made = '', ...records] = ran.stdout.trimEnd().split('\n');
      const cache = JSON.parse(made) as Made;
      const { adopted, refused } = JSON.parse(records.at(-1) ?? '') as Record<string, number>;
      assert.deepEqual([adopted, refused], [4, 0]);
      for (const path of [upper, apart]) await assertInstalls(t, machine, cache, path);
      const verified = await machine.nicheDoes(['verify', '-u', url]);
      assert.match(verified.stdout, /^4 paths of acme verified \(.*\): nothing wrong$/m);
    });

    test('after init: push does not count its paths as present, and repair signs them', async (t) => {
      const former = await formerMachine(t, nix);
      if (!former) return;
      const { machine, upper } = former;
      const { url, publicKey, directory } = await machine.makeCache('acme', ['--no-upstream']);
      const cache = { substituter: url, publicKey } as Made;
      await machine.output('nix', ['copy', '--to', url, upper]);
      const pushed = await machine.niche(['push', '-u', url, upper]);
      assert.equal(pushed.status, 76, pushed.stderr);
      assert.match(pushed.stderr, /unverified-narinfo/);
      // It takes the references along.
      await machine.nicheDoes(['repair', '-u', url, '--adopt-unsigned', upper]);
      await assertInstalls(t, machine, cache, upper);

      // A damaged NAR comes back from another cache, by the same command.
      const nars = (await readdir(join(directory, 'nar'))).filter((name) => name.endsWith('.zst'));
      for (const name of nars) await writeFile(join(directory, 'nar', name), 'damaged');
      assert.equal((await machine.niche(['verify', '-u', url])).status, 76);
      const other = pathToFileURL(join(machine.folder, 'other')).href;
      await machine.output('nix', ['copy', '--to', other, upper]);
      const lower = (await machine.output('nix-store', ['-q', '--references', upper])).split('\n');
      await machine.nicheDoes(['repair', '-u', url, '--from', other, upper, ...lower]);
      await assertInstalls(t, machine, cache, upper);
      await machine.nicheDoes(['verify', '-u', url]);
    });
  });
}

describe('a bucket that nix copy wrote to', { concurrency: false }, () => {
  test('is adopted by init, and repaired afterwards', async (t) => {
    const server = await requireS3(t, 'versitygw');
    const nix = requireNix(t);
    if (server === null || nix === null) return;
    const former = await formerMachine(t, nix);
    if (!former) return;
    const { machine, upper, apart, publicKey } = former;
    const { env } = server;
    const directory = join(machine.folder, 'copied');
    const bucketUrl = `${server.url('acme')}&conditional=yes`;
    await server.createBucket('acme');
    const bucket = openS3Bucket(parseS3Url(bucketUrl), { credentials: server.credentials });
    /** As Nix writes it: not every Nix is built with S3. */
    const copy = async (url: string, ...paths: string[]): Promise<void> => {
      await machine.output('nix', ['copy', '--to', url, ...paths]);
      const files = await readdir(directory, { recursive: true, withFileTypes: true });
      for (const file of files.filter((each) => each.isFile())) {
        const path = join(file.parentPath, file.name);
        const key = path.slice(directory.length + 1);
        if ((await bucket.head(key)) === null) await bucket.put(key, await readFile(path));
      }
      await rm(directory, { recursive: true });
    };
    const copied = pathToFileURL(directory).href;
    await copy(`${copied}?secret-key=${former.secretKeyFile}`, upper);
    const init = ['init', bucketUrl, '--create', '--name', 'acme', '--no-upstream', '--json'];
    const ran = await machine.nicheDoes([...init, '--adopt', '--trust', publicKey], { env });
    const [made = ''] = ran.stdout.split('\n');
    const cache = JSON.parse(made) as Made;
    await assertInstalls(t, machine, cache, upper);

    await copy(copied, apart);
    const flags = ['--publish', 'local'];
    const pushed = await machine.niche(['push', '-u', bucketUrl, ...flags, apart], { env });
    assert.equal(pushed.status, 76, pushed.stderr);
    await machine.nicheDoes(['repair', '-u', bucketUrl, '--adopt-unsigned'], { env });
    await assertInstalls(t, machine, cache, apart);
    const verified = await machine.nicheDoes(['verify', '-u', bucketUrl], { env });
    assert.match(verified.stdout, /^3 paths of acme verified \(.*\): nothing wrong$/m);
  });
});

import assert from 'node:assert/strict';
import { appendFile, chmod, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { assertSound, filesIn, snapshot } from '../support/cache/check.ts';
import type { NicheOptions } from '../support/lab/niche-process.ts';
import { assertDiscreet, createNicheLab, labFolder } from '../support/lab/niche-lab.ts';
import type { LabCache, NicheLab } from '../support/lab/niche-lab.ts';
import { availableNix, whyNoNix } from '../support/lab/nix-lab.ts';

const parts = [
  { name: 'leaf' },
  { name: 'top', deps: ['leaf'] },
  { name: 'damaged' },
  { name: 'dependent', deps: ['damaged'] },
  { name: 'collected' },
  { name: 'other' },
];

const nix = availableNix().at(-1);

describe('bad input', { skip: whyNoNix() }, () => {
  let lab: NicheLab;
  let cache: LabCache;
  let top: string;
  let leaf: string;

  before(async () => {
    lab = await createNicheLab(nix!, parts);
    cache = await lab.cache('acme');
    [top, leaf] = await Promise.all([lab.build('top'), lab.build('leaf')]);
  });
  after(() => lab.close());

  /** Asserts that niche fails with this message and leaves the cache unchanged. */
  async function refused(
    args: readonly string[],
    message: RegExp,
    { status = 1, ...options }: NicheOptions & { readonly status?: number } = {},
  ): Promise<void> {
    const before_ = await snapshot(cache.directory);
    const run = await lab.run(args, options);
    assert.equal(run.status, status, run.stderr);
    assert.match(run.stderr, message);
    assert.equal(run.stdout, '');
    assertDiscreet(run, cache.secretKey);
    assert.deepEqual(await snapshot(cache.directory), before_);
  }

  const push = (...args: readonly string[]): string[] => ['push', '-u', cache.url, ...args];

  test('the cache URL', async (t) => {
    const hint = /\nhint: pass -u URL or set NICHE_CACHE_URL\n$/;
    await refused(['push', top], hint);
    await refused(['worker'], hint);
    await refused(['push', '-u', '', top], hint);
    const cases: readonly (readonly [string, RegExp])[] = [
      ['relative/path', /expected a URL or a path, got "relative\/path"\nhint: begin a path with/],
      ['ftp://host/x', /expected a URL that begins with one of file:\/\/.*; got "ftp:\/\/host\/x"/],
      ['file://relative', /expected file:\/\/\/absolute\/path and nothing more; got/],
      ['file:relative', /expected a URL that begins with one of file:\/\//],
      [
        'file:///a%00b',
        /expected file:\/\/\/absolute\/path and nothing more; got "file:\/\/\/a%00b"/,
      ],
      ['http://', /expected https:\/\/host\/path, got "http:\/\/"/],
      [
        'https://me:hunter2@host/',
        /it must not contain a user or a password\nhint: remove them, .*--netrc FILE\n$/,
      ],
      [`file://${cache.directory}/missing`, /missing failed: expected a directory, got nothing/],
      [`file://${cache.directory}/niche.json`, /expected a directory, got a file/],
      [
        `file://${lab.nix.work}`,
        /there is no cache at .*niche.json is missing\nhint: create one with: niche init/,
      ],
    ];
    for (const [url, message] of cases) {
      await t.test(url, () => refused(['push', '-u', url, top], message));
    }
    await t.test('an HTTP URL without a server', async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      const { port } = server.address() as AddressInfo;
      await new Promise((resolve) => server.close(resolve));
      const message = new RegExp(
        `^niche: reading http://127.0.0.1:${port}/niche.json failed: .*ECONNREFUSED`,
      );
      await refused(['push', '-u', `http://127.0.0.1:${port}`, top], message);
    });
  });

  test('options and commands', async (t) => {
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [['nonsense'], /unknown command 'nonsense'/],
      [push('--nonsense'), /unknown option '--nonsense'/],
      [push('--exclude', '[', top), /--exclude <regex>' argument '\[' is invalid/],
      [
        push('--wait', '5 parsecs', top),
        /argument '5 parsecs' is invalid: expected a duration such as 30s/,
      ],
      [push('--report', '/dev/null/report', top), /cannot write the report "\/dev\/null\/report"/],
      [['worker', cache.url, '--interval', 'x'], /expected a duration such as 30s/],
      [['exec', '-u', cache.url], /missing required argument 'command'/],
      [
        ['exec', '-u', cache.url, '--', 'no-such-program'],
        /cannot run "no-such-program": no such program/,
      ],
      [
        ['build', '-u', cache.url, '--upload', 'maybe'],
        /argument 'maybe' is invalid. Allowed choices are/,
      ],
      [
        [
          'build',
          '-u',
          cache.url,
          '--report',
          '/dev/null/report',
          '--',
          '-f',
          'default.nix',
          'top',
        ],
        /cannot write the report/,
      ],
      [['init', '/tmp/x'], /required option '--name <name>' not specified/],
    ];
    for (const [args, message] of cases) {
      await t.test(args.join(' '), () => refused(args, message));
    }
  });

  test('init', async (t) => {
    const folder = labFolder(lab, 'init');
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [['--name', 'a b'], /argument 'a b' is invalid: expected 1 to 63 letters, digits/],
      [
        ['--name', 'x', '--level', '99'],
        /argument '99' is invalid: expected a whole number from 1 to 19/,
      ],
      [['--name', 'x', '--level', 'high'], /argument 'high' is invalid: expected a whole number/],
      [['--name', 'x', '--compression', 'xz'], /argument 'xz' is invalid: expected zstd or none/],
      [
        ['--name', 'x', '--key-name', 'a:b'],
        /expected a name without colons or white space, got "a:b"/,
      ],
      [['--name', 'x', '--upstream', 'https://host'], /--upstream: expected URL=KEY/],
      [
        ['--name', 'x', '--store-dir', 'nix'],
        /storeDir: expected an absolute folder \(got "nix"\)/,
      ],
    ];
    const keys = (): Promise<string[]> => filesIn(join(lab.nix.env['XDG_CONFIG_HOME']!, 'niche'));
    const keysBefore = await keys();
    for (const [args, message] of cases) {
      await t.test(args.join(' '), () => refused(['init', `${folder}/new`, ...args], message));
    }
    await t.test('in a directory with a cache', () =>
      refused(['init', cache.url, '--name', 'other'], /there is a cache at file:.* already/),
    );
    await t.test('at the path of a file', () =>
      refused(['init', `${cache.directory}/niche.json`, '--name', 'x'], /got a file/),
    );
    await t.test('where no directory can be created', () =>
      refused(
        ['init', 'file:///proc/cache', '--name', 'x'],
        /creating the directory \/proc\/cache failed/,
      ),
    );
    assert.deepEqual(await filesIn(folder), []);
    assert.deepEqual(await keys(), keysBefore, 'no key is left of a cache that was not made');
  });

  test('niche.json', async (t) => {
    const file = join(cache.directory, 'niche.json');
    const good = await readFile(file, 'utf8');
    const changed = (change: Record<string, unknown>): string => {
      return JSON.stringify({ ...(JSON.parse(good) as object), ...change });
    };
    const cases: readonly (readonly [string, string, RegExp])[] = [
      ['empty', '', /niche.json of file:.* is not JSON/],
      ['cut short', good.slice(0, 50), /niche.json of file:.* is not JSON/],
      [
        'a newer version',
        changed({ version: 2 }),
        /has version 2; this niche reads up to version 1\nhint: upgrade niche/,
      ],
      ['without a name', changed({ name: undefined }), /is not valid: name is missing\n/],
      ['without keys', changed({ publicKeys: [] }), /publicKeys: too small.*\(got \[\]\)\n/],
      [
        'with a damaged key',
        changed({ publicKeys: ['x'] }),
        /publicKeys\.0: malformed public key without a name: expected <name>:<base64 of 32 bytes>/,
      ],
      [
        'with a field of the wrong type',
        changed({ storage: 7 }),
        /storage: .*expected string.* \(got 7\)\n/,
      ],
      ['with an unknown field', changed({ extra: 1 }), /the document: unknown fields "extra"\n/],
      [
        'with another store directory',
        changed({ storeDir: '/gnu/store' }),
        /wrong store for the cache .*: expected "\/gnu\/store", this Nix has/,
      ],
    ];
    for (const [name, text, message] of cases) {
      await t.test(name, async () => {
        await writeFile(file, text);
        await refused(push(top), message);
        await refused(['build', '-u', cache.url, '--', '-f', 'default.nix', 'other'], message);
      });
    }
    await writeFile(file, good);
  });

  test('the secret key', async (t) => {
    const folder = labFolder(lab, 'keys');
    const file = join(folder, 'key');
    const other = await lab.cache('other');
    const [name, base64 = ''] = cache.secretKey.split(':');
    const cases: readonly (readonly [string, string, RegExp])[] = [
      [
        'of another cache',
        other.secretKey,
        /wrong secret key in .*: expected one for "acme-1:\S+, got one for "other-1:/,
      ],
      [
        'of another cache, with the same name',
        other.secretKey.replace('other-1', 'acme-1'),
        /wrong secret key in .*: expected one for "acme-1:/,
      ],
      [
        'cut short',
        `${name}:${base64.slice(0, 60)}`,
        /invalid secret key in ".*key": .*expected <name>:<base64 of 64 bytes>/,
      ],
      ['without a name', base64, /invalid secret key in /],
      ['with trailing text', `${cache.secretKey} ${cache.secretKey}`, /invalid secret key in /],
      ['empty', '', /invalid secret key in /],
    ];
    for (const [which, text, message] of cases) {
      await t.test(which, async () => {
        await writeFile(file, text);
        await refused(push('--secret-key-file', file, top), message);
        if (which !== 'of another cache') return;
        await refused(push(top), message, { env: { NICHE_SECRET_KEY_FILE: file } });
        await refused(['worker', cache.url, '--once', '--secret-key-file', file], message);
      });
    }
    await t.test('missing', () =>
      refused(
        push('--secret-key-file', `${folder}/none`, top),
        /no signing key found: .*none" is missing\nhint: pass --secret-key-file/,
      ),
    );
    await t.test('a folder', () =>
      refused(push('--secret-key-file', folder, top), /cannot read the secret key in .*EISDIR/),
    );
    await t.test('not in the default directory', () =>
      refused(push(top), /no signing key found: .*acme-1.secret" is missing/, {
        env: { XDG_CONFIG_HOME: folder },
      }),
    );
  });

  test('without nix', async () => {
    const bin = labFolder(lab, 'bin');
    await symlink(process.execPath, join(bin, 'node'));
    const message = /^niche: cannot find Nix: no program "nix" on PATH\nhint: install Nix/;
    await refused(push(top), message, { env: { PATH: bin } });
    await refused(['build', '-u', cache.url, '--', '.#x'], message, { env: { PATH: bin } });
  });

  test('arguments that are not store paths', async () => {
    await refused(
      push('./nowhere'),
      /"nix path-info \.\/nowhere" failed: exit status 1\n.*No such file/,
    );
    const gone = `${lab.nix.storeDir}/${'a'.repeat(32)}-gone`;
    const message = new RegExp(`^niche: cannot stage: ${gone} is not in the store .*never built\n`);
    await refused(push(gone), message, { status: 76 });
    await refused(push(), message, { status: 76, input: `${gone}\n` });
    const garbage =
      /upload failed: invalid line on standard input: expected a store path, got "garbage\\u0000/;
    await refused(push(), garbage, { status: 76, input: 'garbage\0\n' });
    await refused(push(), /expected a store path, got "x{120}… \(100000 characters\)"/, {
      status: 76,
      input: 'x'.repeat(100_000),
    });
  });

  test('a path whose contents have changed on this machine', async () => {
    const damaged = await lab.build('damaged');
    const dependent = await lab.build('dependent');
    const file = join(lab.nix.realPath(damaged), 'name');
    await chmod(file, 0o644);
    await appendFile(file, 'more');
    const run = await lab.run(push(dependent));
    assert.equal(run.status, 76, run.stderr);
    const message = `cannot stage: ${damaged} was modified in the store: expected sha256:`;
    assert.ok(run.stderr.includes(message), run.stderr);
    assert.match(run.stderr, /nix-store --repair-path \/.*damaged$/m);
    assert.ok(run.stderr.includes(`${dependent} waits for 1 reference: ${damaged}`), run.stderr);
    assertDiscreet(run, cache.secretKey);
    assert.deepEqual(await assertSound(cache.directory), []);
  });

  test('a path that is deleted between the query and the upload', async () => {
    const collected = await lab.build('collected');
    const real = lab.nix.realPath(collected);
    // It stays valid in Nix's database, as during a garbage collection.
    await chmod(real, 0o755);
    await lab.nix.output('rm', ['-rf', real]);
    const run = await lab.run(push(collected, leaf));
    assert.equal(run.status, 76, run.stderr);
    assert.match(run.stderr, new RegExp(`cannot stage.*${collected}.*`));
    assertDiscreet(run, cache.secretKey);
    assert.deepEqual(await assertSound(cache.directory), [leaf], 'the other one is published');
  });

  test('a path that is already published with different contents or references', async () => {
    const whole = await lab.run(push(top));
    assert.equal(whole.status, 0, whole.stderr);
    for (const [name, script] of [
      ['contents', 'echo other > $out/extra'],
      ['references', 'true'],
    ] as const) {
      const twin = await createNicheLab(nix!, [
        { name: 'leaf' },
        { name: 'top', deps: ['leaf'], script },
      ]);
      try {
        // The same path with other metadata. A store trusts only its registration.
        const info = await lab.nix.output('nix-store', ['--dump-db', top, leaf]);
        const target = twin.nix.realPath(top);
        await mkdir(twin.nix.realPath(twin.nix.storeDir), { recursive: true });
        await lab.nix.output('cp', ['-r', lab.nix.realPath(leaf), twin.nix.realPath(leaf)]);
        await lab.nix.output('cp', ['-r', lab.nix.realPath(top), target]);
        let registration = info;
        if (name === 'contents') {
          await chmod(target, 0o755);
          await writeFile(join(target, 'extra'), 'other');
          const hash = await twin.nix.output('nix-hash', ['--type', 'sha256', '--base16', target]);
          const nar = await twin.nix.output('sh', ['-c', 'nix-store --dump "$0" | wc -c', target]);
          registration = registrationOf(info, top, [hash, nar.trim()]);
        } else registration = withoutReferences(info, top);
        await twin.nix.output('nix-store', ['--load-db'], { input: `${registration}\n` });
        const before_ = await snapshot(cache.directory);
        const run = await twin.run(push('--strict', '--secret-key-file', cache.secretKeyFile, top));
        assert.equal(run.status, 76, run.stderr);
        assert.match(
          run.stderr,
          /^niche: rejected \(conflict\): the cache already has .*-top with other contents or references$/m,
        );
        assertDiscreet(run, cache.secretKey);
        assert.deepEqual(await snapshot(cache.directory), before_);
      } finally {
        await twin.close();
      }
    }
  });

  test('failed runs leave no files', async () => {
    const left = await readdir(lab.nix.env['TMPDIR']!);
    assert.deepEqual(
      left.filter((name) => name.startsWith('niche-')),
      [],
    );
    assert.deepEqual(lab.processes(), []);
  });

  test('no file of the cache or the machine contains the secret key, except the key file', async () => {
    const [, base64 = ''] = cache.secretKey.split(':');
    const key = Buffer.from(base64, 'base64');
    for (const folder of [
      cache.directory,
      lab.nix.env['TMPDIR']!,
      lab.nix.work,
      lab.nix.env['HOME']!,
    ]) {
      for (const file of await filesIn(folder)) {
        const path = join(folder, file);
        if (path === cache.secretKeyFile) continue;
        const bytes = await readFile(path);
        assert.ok(!bytes.includes(base64) && !bytes.includes(key), path);
      }
    }
  });
});

/** `nix-store --dump-db`: path, hash, size, deriver, number of references, references. */
function entryOf(dump: string, path: string): { lines: string[]; at: number } {
  const lines = dump.split('\n');
  const at = lines.findIndex(
    (line, index) => line === path && /^[0-9a-f]{64}$/.test(lines[index + 1] ?? ''),
  );
  return { lines, at };
}

function registrationOf(dump: string, path: string, replaced: readonly string[]): string {
  const { lines, at } = entryOf(dump, path);
  lines.splice(at + 1, replaced.length, ...replaced);
  return lines.join('\n');
}

function withoutReferences(dump: string, path: string): string {
  const { lines, at } = entryOf(dump, path);
  const count = Number(lines[at + 4]);
  lines.splice(at + 4, count + 1, '0');
  return lines.join('\n');
}

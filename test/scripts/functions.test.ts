import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { functionTargets } from '../../scripts/function-targets.ts';

const checkout = join(import.meta.dirname, '../..');
const drivers = { aws: 's3', azure: 'azure', google: 'google' };

describe('the deployed bundles', () => {
  let out: string;
  before(async () => {
    out = await mkdtemp(join(tmpdir(), 'niche-bundles-'));
    const script = join(checkout, 'scripts/functions.ts');
    await promisify(execFile)(process.execPath, [script, `--out=${out}`], { cwd: checkout });
  });
  after(() => rm(out, { recursive: true, force: true }));

  for (const { cloud, folder, entries, format } of functionTargets) {
    it(`has exactly the licences of its packages: ${cloud}`, async () => {
      const maps = join(out, '.maps', cloud);
      const packages = new Set<string>();
      for (const name of await readdir(maps)) {
        const map = await readFile(join(maps, name), 'utf8');
        const { sources } = JSON.parse(map) as { sources: readonly string[] };
        for (const source of sources) {
          const [, found] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(source) ?? [];
          if (found !== undefined) packages.add(found);
        }
      }
      const licenses = await readFile(join(out, folder, 'third-party-licenses.txt'), 'utf8');
      const named = licenses
        .split('\n---\n\n')
        .map((section) => /^\S+/.exec(section)?.[0] ?? '')
        // These are bundles themselves. The source map has their own sources' names.
        .filter((name) => packages.has(name) || !name.startsWith('@azure/functions'));
      assert.deepEqual(new Set(named), packages);
      assert.ok(packages.has('zod'));
    });

    for (const entry of entries) {
      const file = `${entry}.${format === 'esm' ? 'mjs' : 'cjs'}`;

      it(`is one file of at most 1 MiB: ${cloud} ${file}`, async () => {
        const { size } = await stat(join(out, folder, file));
        assert.ok(size <= 1024 * 1024, `${size} bytes`);
        assert.ok(size > 100_000, `${size} bytes`);
      });

      // Importing it takes 20 ms of each start: Node compiles undici for one of its exports.
      it(`does not import node:http: ${cloud} ${file}`, async () => {
        const bundle = await readFile(join(out, folder, file), 'utf8');
        assert.doesNotMatch(bundle, /from ?["'](?:node:)?http["']/);
        assert.match(bundle, /getBuiltinModule\(["']node:http["']\)/);
      });

      it(`has only the storage driver of its own cloud, and no provisioning: ${cloud} ${file}`, async () => {
        const map = await readFile(join(out, '.maps', cloud, `${file}.map`), 'utf8');
        const { sources } = JSON.parse(map) as { sources: readonly string[] };
        const found = sources.flatMap(
          (source) => /core\/storage\/(\w+)\/(?:driver|provision)\.ts$/.exec(source)?.[1] ?? [],
        );
        assert.deepEqual(found, [drivers[cloud]]);
      });
    }
  }
});

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { constants, zstdDecompressSync } from 'node:zlib';

import { createWorkerPool } from '../../../../core/cache/zstd/worker-pool.ts';
import { patternBytes } from '../../../support/assert/bytes.ts';
import { testTimeLimitMs } from '../../../support/assert/until.ts';

const params = { [constants.ZSTD_c_compressionLevel]: 3 };

function job(contents: Uint8Array, memoryBytes = 2 * contents.length) {
  const memory = new SharedArrayBuffer(memoryBytes);
  new Uint8Array(memory).set(contents);
  return { memory, sections: [{ at: 0, size: contents.length, room: memoryBytes, params }] };
}

describe('workers that compress frames', () => {
  it('write each frame in place of its contents, also with more frames than workers', async () => {
    const workers = createWorkerPool(2);
    const inputs = [1, 70_000, 3, 500_000, 5].map((size, index) => patternBytes(size, index));
    const jobs = inputs.map((input) => job(input, 2 * input.length + 1024));
    const sizes = await Promise.all(jobs.map((each) => workers.compress(each)));
    for (const [index, { memory }] of jobs.entries()) {
      const frame = Buffer.from(memory, 0, sizes[index]![0]);
      assert.ok(zstdDecompressSync(frame).equals(inputs[index]!), `frame ${index}`);
    }
  });

  it('compress several sections of one memory', async () => {
    const workers = createWorkerPool(1);
    const inputs = [100, 40_000, 7].map((size, index) => patternBytes(size, index));
    const memory = new SharedArrayBuffer(inputs.length * 65_536);
    const sections = inputs.map((input, index) => {
      const at = index * 65_536;
      new Uint8Array(memory).set(input, at);
      return { at, size: input.length, room: 65_536, params };
    });
    const sizes = await workers.compress({ memory, sections });
    for (const [index, { at }] of sections.entries()) {
      const frame = Buffer.from(memory, at, sizes[index]);
      assert.ok(zstdDecompressSync(frame).equals(inputs[index]!), `section ${index}`);
    }
  });

  it('fail alone, and queued frames continue', async () => {
    const workers = createWorkerPool(1);
    const good = job(patternBytes(1000), 3000);
    const { memory, sections } = job(patternBytes(1000));
    const wrong = { [constants.ZSTD_c_windowLog]: 1 };
    const bad = { memory, sections: sections.map((each) => ({ ...each, params: wrong })) };
    const [failed, compressed] = await Promise.allSettled(
      [bad, good].map((each) => workers.compress(each)),
    );
    assert.equal(failed?.status, 'rejected');
    assert.equal(compressed?.status, 'fulfilled');
  });

  it('do not keep an idle process alive', () => {
    const module = join(import.meta.dirname, '../../../../core/cache/zstd/worker-pool.ts');
    const script = `
      const { createWorkerPool } = await import(${JSON.stringify(module)});
      const memory = new SharedArrayBuffer(2000);
      console.log(await createWorkerPool(1).compress({ memory, sections: [{ at: 0, size: 1000, room: 2000, params: {} }] }));`;
    const args = ['--input-type=module', '--eval', script];
    const ended = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: testTimeLimitMs });
    assert.equal(ended.status, 0, ended.stderr);
    assert.match(ended.stdout, /^\[ \d+ \]/);
  });
});

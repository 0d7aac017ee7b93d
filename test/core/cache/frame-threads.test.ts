import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { constants, zstdDecompressSync } from 'node:zlib';

import { createFrameThreads } from '../../../core/cache/frame-threads.ts';
import { patternBytes } from '../../support/bytes.ts';

const params = { [constants.ZSTD_c_compressionLevel]: 3 };

function order(contents: Uint8Array, memoryBytes = 2 * contents.length) {
  const memory = new SharedArrayBuffer(memoryBytes);
  new Uint8Array(memory).set(contents);
  return { memory, size: contents.length, params, chunkSize: memoryBytes };
}

describe('threads that compress frames', () => {
  it('put each frame where its contents were, more frames than threads', async () => {
    const threads = createFrameThreads(2);
    const inputs = [1, 70_000, 3, 500_000, 5].map((size, index) => patternBytes(size, index));
    const orders = inputs.map((input) => order(input, 2 * input.length + 1024));
    const sizes = await Promise.all(orders.map((each) => threads.compress(each)));
    for (const [index, { memory }] of orders.entries()) {
      const frame = Buffer.from(memory, 0, sizes[index]);
      assert.ok(zstdDecompressSync(frame).equals(inputs[index]!), `frame ${index}`);
    }
  });

  it('fail alone, and those that wait go on', async () => {
    const threads = createFrameThreads(1);
    const good = order(patternBytes(1000), 3000);
    const bad = { ...order(patternBytes(1000)), params: { [constants.ZSTD_c_windowLog]: 1 } };
    const [failed, compressed] = await Promise.allSettled(
      [bad, good].map((each) => threads.compress(each)),
    );
    assert.equal(failed?.status, 'rejected');
    assert.equal(compressed?.status, 'fulfilled');
  });

  it('do not keep a process that has nothing left to do', () => {
    const module = join(import.meta.dirname, '../../../core/cache/frame-threads.ts');
    const script = `
      const { createFrameThreads } = await import(${JSON.stringify(module)});
      const memory = new SharedArrayBuffer(2000);
      console.log(await createFrameThreads(1).compress({ memory, size: 1000, params: {}, chunkSize: 2000 }));`;
    const args = ['--input-type=module', '--eval', script];
    const ended = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
    assert.equal(ended.status, 0, ended.stderr);
    assert.ok(Number(ended.stdout) > 0);
  });
});

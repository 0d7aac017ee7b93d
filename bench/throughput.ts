import { createHash } from 'node:crypto';
import { join } from 'node:path';

import { packTree } from '../cli/nix/pack-tree.ts';
import { compressZstd, decompressZstd } from '../core/cache/zstd/stream.ts';
import { createListingWriter } from '../core/nix/listing-writer.ts';
import { createNarParser } from '../core/nix/nar-parser.ts';
import { writeNar } from '../core/nix/nar-writer.ts';
import { createReferenceScanner } from '../core/nix/references.ts';
import { readNarTree } from '../test/support/cache/nar-tree.ts';
import { runAlone } from './report.ts';
import type { BenchOptions } from './report.ts';
import { spread } from './result.ts';
import type { Result } from './result.ts';

/** A folder with many small files and some large ones. */
const tree = join(import.meta.dirname, '../node_modules');

/** Measures the throughput of each part of the publisher and the client, in NAR bytes. */
export async function benchThroughput({ quick }: BenchOptions): Promise<Result[]> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const folder = quick ? join(tree, 'typescript') : tree;
  for await (const chunk of packTree(folder)) {
    bytes += chunk.length;
    chunks.push(Uint8Array.from(chunk));
  }
  const rounds = quick ? 1 : 5;
  const candidates = ['0c0f7r8lq3rjpbd5bsl5hwf0jcpsxs4v', '1b9p07z77phvv2hf6gm9f28syp39f1ag'];

  async function measure(name: string, work: () => Promise<void> | void): Promise<Result> {
    const speeds: number[] = [];
    for (let round = 0; round <= rounds; round += 1) {
      const startedAt = performance.now();
      await work();
      // The first round warms up.
      if (round > 0 || quick) speeds.push(bytes / 1000 / (performance.now() - startedAt));
    }
    return { kind: 'throughput', name, mbPerSecond: spread(speeds) };
  }

  const compressed: Uint8Array[] = [];
  const options = { level: 3, parallelism: 2, totalBytes: bytes };
  for await (const frame of compressZstd(streamed(chunks), options)) {
    compressed.push(Uint8Array.from(frame));
  }
  const written = readNarTree(chunks);

  return [
    await measure('NAR: parse and list', () => {
      const parser = createNarParser(createListingWriter());
      for (const chunk of chunks) parser.write(chunk);
      parser.end();
    }),
    await measure('NAR: write from memory', () => drain(writeNar(written))),
    await measure('NAR: pack a tree from disk', () => drain(packTree(folder))),
    await measure('scan for references', () => {
      const scanner = createReferenceScanner({ storeDir: '/nix/store', candidates });
      for (const chunk of chunks) scanner.write(chunk);
      scanner.found();
    }),
    await measure('SHA-256', () => {
      const hash = createHash('sha256');
      for (const chunk of chunks) hash.update(chunk);
      hash.digest();
    }),
    await measure('zstd, level 3, two frames at once', () =>
      drain(compressZstd(streamed(chunks), options)),
    ),
    await measure('zstd, decompress', () => drain(decompressZstd(streamed(compressed)))),
  ];
}

async function* streamed(chunks: readonly Uint8Array[]): AsyncIterable<Uint8Array> {
  yield* chunks;
  await Promise.resolve();
}

async function drain(source: AsyncIterable<Uint8Array>): Promise<void> {
  const chunks = source[Symbol.asyncIterator]();
  while ((await chunks.next()).done !== true);
}

if (import.meta.main) await runAlone(benchThroughput);

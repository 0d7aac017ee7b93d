import { testPath } from './cache-paths.ts';
import type { TestPath } from './cache-paths.ts';

/** The same path in every process, with a NAR of some 64 MiB. */
export function largeTestPath(): Promise<TestPath> {
  return testPath('large', { contents: Buffer.alloc(64 * 2 ** 20, 'a large path ') });
}

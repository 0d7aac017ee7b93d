import type { TestEvent } from 'node:test/reporters';

/** The report of one process of tests. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  /** How many tests were skipped, by reason. */
  readonly skipped: Readonly<Record<string, number>>;
  /** Failed tests, as `file › suite › test`. */
  readonly failures: readonly string[];
}

/** A reporter that writes {@link TestCounts} as JSON. Suites are not counted. */
export default async function* countingReporter(
  events: AsyncIterable<TestEvent>,
): AsyncGenerator<string> {
  let passed = 0;
  let failed = 0;
  const skipped: Record<string, number> = {};
  const failures: string[] = [];
  const parents: string[] = [];
  for await (const { type, data } of events) {
    if (type === 'test:start') parents.splice(data.nesting, Infinity, data.name);
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const isSuite = data.details.type === 'suite';
    if (data.skip !== undefined) {
      const reason = typeof data.skip === 'string' ? data.skip : data.name;
      skipped[reason] = (skipped[reason] ?? 0) + 1;
    } else if (type === 'test:fail') {
      // A suite fails with its tests, which are listed themselves.
      const isOwn = !isSuite || !/^\d+ subtests? failed/.test(data.details.error.message);
      if (!isOwn) continue;
      failed += 1;
      failures.push([data.file ?? '', ...parents.slice(0, data.nesting), data.name].join(' › '));
    } else if (!isSuite) {
      passed += 1;
    }
  }
  yield JSON.stringify({ passed, failed, skipped, failures } satisfies TestCounts);
}

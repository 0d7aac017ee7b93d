import type { TestEvent } from 'node:test/reporters';

/** A reporter that says at the end what was skipped, and why: each reason once, with how many. */
export default async function* skippedReporter(
  events: AsyncIterable<TestEvent>,
): AsyncGenerator<string> {
  const counts = new Map<string, number>();
  for await (const { type, data } of events) {
    if (type !== 'test:pass' || data.skip === undefined) continue;
    const reason = typeof data.skip === 'string' ? data.skip : data.name;
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  const lines = [...counts].map(([reason, count]) => `skipped ${count}: ${reason}\n`);
  yield lines.join('');
}

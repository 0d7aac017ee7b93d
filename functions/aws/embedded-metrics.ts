import type { Tally } from '../shared/tally.ts';

/** What CloudWatch files the metrics under. */
export const metricsNamespace = 'niche';

type Unit = 'Count' | 'Bytes' | 'Milliseconds';

/**
 * The tally in CloudWatch's Embedded Metric Format, a document a line: what was counted for the
 * cache, and what was rejected or failed once more by its code.
 *
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
 */
export function embeddedMetrics(tally: Tally, cache: string, now = Date.now()): object[] {
  const document = (
    dimensions: Readonly<Record<string, string>>,
    metrics: readonly (readonly [string, number, Unit])[],
  ): object => ({
    _aws: {
      Timestamp: now,
      CloudWatchMetrics: [
        {
          Namespace: metricsNamespace,
          Dimensions: [Object.keys(dimensions)],
          Metrics: metrics.map(([Name, , Unit]) => ({ Name, Unit })),
        },
      ],
    },
    ...dimensions,
    ...Object.fromEntries(metrics.map(([name, value]) => [name, value])),
  });
  const byCode = (name: string, counts: ReadonlyMap<string, number>): object[] =>
    [...counts].map(([code, count]) =>
      document({ Cache: cache, Code: code }, [[name, count, 'Count']]),
    );
  return [
    document({ Cache: cache }, [
      ['Published', tally.published, 'Count'],
      ['Exists', tally.exists, 'Count'],
      ['Waiting', tally.waiting, 'Count'],
      ['Rejected', sum(tally.rejected), 'Count'],
      ['Failed', sum(tally.failed), 'Count'],
      ['Malformed', tally.malformed, 'Count'],
      ['NarBytes', tally.narBytes, 'Bytes'],
      ['Duration', Math.round(tally.durationMs), 'Milliseconds'],
    ]),
    ...byCode('Rejected', tally.rejected),
    ...byCode('Failed', tally.failed),
  ];
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}

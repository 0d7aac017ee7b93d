import type { InvocationMetrics } from '../shared/metrics.ts';

/** The CloudWatch namespace of the metrics. */
export const metricsNamespace = 'niche';

type Unit = 'Count' | 'Bytes' | 'Milliseconds';

/**
 * Returns the metrics in CloudWatch's Embedded Metric Format, one document per line: one for the
 * cache, and one for each error code of a rejected path or failed job.
 *
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
 */
export function embeddedMetrics(
  metrics: InvocationMetrics,
  cache: string,
  now = Date.now(),
): object[] {
  const document = (
    dimensions: Readonly<Record<string, string>>,
    values: readonly (readonly [string, number, Unit])[],
  ): object => ({
    _aws: {
      Timestamp: now,
      CloudWatchMetrics: [
        {
          Namespace: metricsNamespace,
          Dimensions: [Object.keys(dimensions)],
          Metrics: values.map(([Name, , Unit]) => ({ Name, Unit })),
        },
      ],
    },
    ...dimensions,
    ...Object.fromEntries(values.map(([name, value]) => [name, value])),
  });
  const byCode = (name: string, counts: ReadonlyMap<string, number>): object[] =>
    [...counts].map(([code, count]) =>
      document({ Cache: cache, Code: code }, [[name, count, 'Count']]),
    );
  return [
    document({ Cache: cache }, [
      ['Published', metrics.published, 'Count'],
      ['Exists', metrics.exists, 'Count'],
      ['Waiting', metrics.waiting, 'Count'],
      ['Rejected', sum(metrics.rejected), 'Count'],
      ['Failed', sum(metrics.failed), 'Count'],
      ['Malformed', metrics.malformed, 'Count'],
      ['NarBytes', metrics.narBytes, 'Bytes'],
      ['Duration', Math.round(metrics.durationMs), 'Milliseconds'],
    ]),
    ...byCode('Rejected', metrics.rejected),
    ...byCode('Failed', metrics.failed),
  ];
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}

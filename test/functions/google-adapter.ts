import { createPublishHandler, createSweepHandler } from '../../functions/google/handlers.ts';
import { structuredLine } from '../../functions/google/runtime.ts';
import type { GoogleRuntime } from '../../functions/google/runtime.ts';
import type { LogRecord } from '../../functions/shared/log.ts';
import { createLog } from '../../functions/shared/log.ts';
import { createMetrics } from '../../functions/shared/metrics.ts';
import type { Adapter, Delivery, Verdict } from './adapter-lab.ts';
import { finalizedEvent, publishedEvent, pushBody } from './google-events.ts';

export const googleAdapter: Adapter = {
  name: 'Google Cloud',
  root: { bucket: 'acme-cache-staging', prefix: 'team/' },
  keepsNonsense: false,
  readRecord(line) {
    const { severity, time, ...fields } = JSON.parse(line) as Record<string, string>;
    const levels: Record<string, string> = { INFO: 'info', WARNING: 'warn', ERROR: 'error' };
    return { level: levels[severity!], at: time, ...fields } as LogRecord;
  },
  start({ deployment, write }) {
    const runtime: GoogleRuntime = {
      deployment,
      root: googleAdapter.root,
      checkToken: () => Promise.resolve(),
      invoke(fields, work) {
        const log = createLog((record) => {
          write(structuredLine(record));
        }, fields);
        return work({ log, metrics: createMetrics() });
      },
    };
    const publish = createPublishHandler(() => runtime);
    const sweep = createSweepHandler(() => runtime);
    async function callSweep(body?: object): Promise<Verdict> {
      let verdict: Verdict = 'again';
      const status = (code: number) => {
        verdict = code === 200 ? 'done' : 'again';
        return { json: () => undefined };
      };
      await sweep({ method: 'POST', headers: {}, body }, { status });
      return verdict;
    }

    return {
      async publish(delivery) {
        // Withdrawals have a topic of their own.
        const isWithdrawal = delivery.kind === 'message' && 'withdraw' in delivery.body;
        if (isWithdrawal) return callSweep(pushBody(delivery.body));
        try {
          await publish(eventOf(delivery));
          return 'done';
        } catch {
          return 'again';
        }
      },
      sweep: () => callSweep(),
    };
  },
};

function eventOf(delivery: Delivery): object {
  switch (delivery.kind) {
    case 'object':
      return finalizedEvent(delivery.bucket, delivery.key, delivery.etag);
    case 'message':
      return publishedEvent(delivery.body);
    case 'nonsense':
      return { ...finalizedEvent('x', 'y'), data: { bucket: 7 } };
  }
}

import { openUpstreams } from '../../core/cache/open.ts';
import type { OpenCache } from '../../core/cache/open.ts';
import { createOutageWait } from '../../core/cache/upstream-outage.ts';
import type { Upstreams } from '../../core/cache/upstreams.ts';
import { accessOf } from '../cache/open.ts';
import type { Context } from '../process/context.ts';
import { formatDuration } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import type { UploadRequest } from './flags.ts';

/** Opens the upstreams of the cache for an upload, which waits for one that is down and says so. */
export function openWaitingUpstreams(
  { config }: Pick<OpenCache, 'config'>,
  { upstreamWaitMs: maxWaitMs }: Pick<UploadRequest, 'upstreamWaitMs'>,
  context: Context,
  progress: Progress,
): Upstreams {
  return openUpstreams(config, accessOf(context), (url) =>
    createOutageWait({
      maxWaitMs,
      onDown() {
        progress.line(
          `warning: the upstream ${url} does not respond: waiting up to ${formatDuration(maxWaitMs)}`,
        );
      },
      onAnswer(outageMs) {
        progress.line(`the upstream ${url} responds again, after ${formatDuration(outageMs)}`);
      },
      onGivenUp() {
        progress.line(
          `warning: the upstream ${url} did not respond for ${formatDuration(maxWaitMs)}: staging paths without it; the publisher looks there again`,
        );
      },
    }),
  );
}

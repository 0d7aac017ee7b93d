import type { BatchId } from '../../core/cache/layout.ts';
import type { Outcome } from '../../core/cache/receipts/receipts.ts';
import { messageOf } from '../../core/errors.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { hintOf } from '../ui/describe-error.ts';
import { count } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import type { Results } from './results.ts';
import type { Skip } from './select.ts';

/** Shows a person how an upload proceeds. */
export interface UploadDisplay {
  started(upload: string): void;
  skipped(info: PathInfo, why: Skip): void;
  staged(batch: BatchId, infos: readonly unknown[]): void;
  resumed(batch: BatchId, info: PathInfo): void;
  published(path: string, outcome: Outcome): void;
  failed(path: string, error: unknown): void;
  warning(message: string): void;
  /** Redraws how many paths are staged and published. */
  counts(): void;
}

export function createUploadDisplay(progress: Progress, results: Results): UploadDisplay {
  function counts(): void {
    progress.state(() => {
      const published = results.all().filter(({ status }) => status === 'published').length;
      return `${published} published, ${results.pending().length} staged`;
    });
  }

  return {
    started(upload) {
      progress.detail(`upload ${upload}`);
    },
    skipped({ path }, why) {
      progress.detail(`not staged (${why}): ${path}`);
    },
    staged({ batch }, infos) {
      progress.detail(`staged batch ${batch} with ${count(infos.length, 'path')}`);
      counts();
    },
    resumed({ upload }, { path }) {
      progress.detail(`already staged in upload ${upload}: ${path}`);
    },
    published(path, { status }) {
      progress.detail(`${status} ${path}`);
      counts();
    },
    failed(path, error) {
      const message = messageOf(error);
      const subject = message.includes(path) ? '' : ` ${path}`;
      progress.lines([`niche: cannot stage${subject}: ${message}`, ...hintOf(error)]);
    },
    warning(message) {
      progress.line(`warning: ${message}`);
    },
    counts,
  };
}

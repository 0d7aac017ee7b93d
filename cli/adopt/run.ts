import { adoptNarInfos } from '../../core/cache/adopt/adopt.ts';
import type { AdoptCounts, AdoptOptions, AdoptResult } from '../../core/cache/adopt/context.ts';
import { statusNotPublished, statusRejected } from '../process/context.ts';
import type { Context } from '../process/context.ts';
import { listenForInterrupt } from '../process/interrupt.ts';
import { count } from '../ui/format.ts';
import { startProgress } from '../ui/progress.ts';

/** What a command decides about a run; the rest comes from the process. */
export type AdoptionRequest = Omit<
  AdoptOptions,
  'version' | 'signal' | 'onProgress' | 'onResult' | 'now'
>;

/** A finished run. */
export interface Adoption {
  readonly counts: AdoptCounts;
  readonly summary: string;
  readonly exitStatus: number;
}

/**
 * Signs existing narinfos, with progress for people. Stops on a signal: the next run continues.
 *
 * @param onResult receives each path that is adopted, repaired or refused
 */
export async function runAdoption(
  request: AdoptionRequest,
  context: Context,
  onResult: (result: AdoptResult) => void,
): Promise<Adoption> {
  const progress = startProgress(context, true);
  const interrupt = listenForInterrupt(true);
  const byProof = { content: 0, signature: 0, nothing: 0 };
  try {
    const counts = await adoptNarInfos({
      ...request,
      version: `niche ${context.version}`,
      signal: interrupt.signal,
      onResult(result) {
        if (result.status === 'adopted') byProof[proofOf(result)] += 1;
        progress.end();
        onResult(result);
      },
      onProgress(now) {
        progress.state(
          () => `read ${count(now.read, 'narinfo')}, signed ${now.adopted}, refused ${now.refused}`,
        );
      },
    });
    const exitStatus =
      counts.refused > 0 ? statusRejected : counts.changed > 0 ? statusNotPublished : 0;
    return { counts, summary: summarize(counts, byProof, request), exitStatus };
  } finally {
    progress.end();
    const status = interrupt.status();
    if (status !== null) context.setExitStatus(status);
    interrupt.close();
  }
}

type ByProof = Readonly<Record<'content' | 'signature' | 'nothing', number>>;

function proofOf({ by }: AdoptResult): keyof ByProof {
  if (by === 'content-address') return 'content';
  return by === 'nothing' ? 'nothing' : 'signature';
}

function summarize(
  { signed, adopted, repaired, refused, changed }: AdoptCounts,
  { content, signature, nothing }: ByProof,
  { isDryRun }: AdoptionRequest,
): string {
  const proofs = [
    content > 0 ? `${content} content-addressed` : '',
    signature > 0 ? `${signature} with a trusted signature` : '',
    nothing > 0 ? `${nothing} without proof of their origin` : '',
  ].filter((part) => part !== '');
  const of = proofs.length > 0 ? ` (${proofs.join(', ')})` : '';
  const parts = [
    `${isDryRun ? 'would sign' : 'signed'} ${count(adopted, 'narinfo')}${of}`,
    ...(repaired > 0
      ? [`${isDryRun ? 'would repair' : 'repaired'} ${count(repaired, 'damaged NAR')}`]
      : []),
    `${signed} signed before`,
    ...(refused > 0 ? [`${refused} refused`] : []),
    ...(changed > 0 ? [`${changed} changed meanwhile (run the command again)`] : []),
  ];
  return parts.join(', ');
}

/** Returns a line about a path that is not signed or was repaired; null for one that is signed. */
export function describeResult({ path, status, code, message }: AdoptResult): string | null {
  switch (status) {
    case 'adopted':
      return null;
    case 'repaired':
      return `repaired: ${path}: its narinfo refers to an intact NAR`;
    case 'changed':
      return `changed meanwhile: ${path}`;
    case 'refused':
      return `refused: ${path}: ${message ?? ''} (${code ?? 'failed'})`;
  }
}

import { resolve } from 'node:path';

/** What setting up one tool came to; printed as one line. */
export interface ToolReport {
  /** What was wanted, such as `nix (trixie)`. */
  readonly tool: string;
  /** `ready`: was there already; `installed`: came now; `missing`: could not be had. */
  readonly status: 'ready' | 'installed' | 'missing';
  /** The version that came, or why none did and how to get it. */
  readonly detail: string;
}

/** The folder that tools for tests are kept in: `NICHE_TOOLS`, or `.tools` of this checkout. */
export function toolsFolder(): string {
  const chosen = process.env['NICHE_TOOLS'];
  return resolve(
    chosen === undefined || chosen === '' ? `${import.meta.dirname}/../../.tools` : chosen,
  );
}

/** Whether this runs in CI, where a tool that is missing is a failure and not a skip. */
export function inCi(): boolean {
  const value = process.env['CI'] ?? '';
  return value !== '' && value !== 'false' && value !== '0';
}

/** Prints the reports and says, by the exit code, whether CI may go on. */
export function finishSetup(reports: readonly ToolReport[]): void {
  for (const { tool, status, detail } of reports) {
    console.log(`${status.padEnd(9)} ${tool}: ${detail}`);
  }
  if (inCi() && reports.some(({ status }) => status === 'missing')) {
    process.exitCode = 1;
  }
}

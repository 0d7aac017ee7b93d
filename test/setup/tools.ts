import { resolve } from 'node:path';

/** The result of setting up one tool. */
export interface ToolReport {
  /** The tool, such as `nix (trixie)`. */
  readonly tool: string;
  /** `ready`: was installed before; `installed`: was installed now; `missing`: cannot be installed. */
  readonly status: 'ready' | 'installed' | 'missing';
  /** The version and the path; or why it is missing and how to get it. */
  readonly detail: string;
}

/** Returns the folder for test tools: `NICHE_TOOLS`, or `.tools` of this checkout. */
export function toolsFolder(): string {
  const chosen = process.env['NICHE_TOOLS'];
  return resolve(
    chosen === undefined || chosen === '' ? `${import.meta.dirname}/../../.tools` : chosen,
  );
}

/** Returns whether this runs in CI, where a missing tool is a failure instead of a skip. */
export function inCi(): boolean {
  const value = process.env['CI'] ?? '';
  return value !== '' && value !== 'false' && value !== '0';
}

/** Prints one line a tool. In CI a missing tool sets the exit code to 1. */
export function printReports(reports: readonly ToolReport[]): void {
  for (const { tool, status, detail } of reports) {
    console.log(`${status.padEnd(9)} ${tool}: ${detail}`);
  }
  if (inCi() && reports.some(({ status }) => status === 'missing')) {
    process.exitCode = 1;
  }
}

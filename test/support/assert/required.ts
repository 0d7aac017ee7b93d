import type { TestContext } from 'node:test';
import { findProgram, type Program } from '../../setup/programs.ts';
import { inCi } from '../../setup/tools.ts';

/**
 * Returns the value for `skip` of a test or a suite: the reason to skip it, or false if `found` exists.
 *
 * @throws Error in CI, where a missing requirement is a failure
 */
export function whyNo(name: string, found: unknown): string | false {
  if (found !== null && found !== undefined) return false;
  const message = notInstalled(name);
  if (inCi()) throw new Error(message);
  return message;
}

/** Returns the message that a requirement is missing, with a hint how to get it. */
export function notInstalled(name: string): string {
  return `no ${name} under the tools folder: run \`npm run setup:test\``;
}

/**
 * Skips the test with a hint if `found` is missing; in CI it fails.
 *
 * @returns null when the test was skipped and must return
 */
export function requireTool<Tool extends object | string>(
  t: TestContext,
  name: string,
  found: Tool | null | undefined,
): Tool | null {
  const why = whyNo(name, found);
  if (why !== false) t.skip(why);
  return found ?? null;
}

/**
 * Starts a server for one test, unless there is a reason to skip it.
 *
 * @returns null when the test was skipped and must return
 */
export async function startFor<Server extends { stop(): Promise<void> }>(
  t: TestContext,
  whyNot: string | false,
  start: () => Promise<Server>,
): Promise<Server | null> {
  if (whyNot !== false) {
    t.skip(whyNot);
    return null;
  }
  const server = await start();
  t.after(() => server.stop());
  return server;
}

/**
 * Returns the path of a program. Call {@link whyNo} first in tests that may be skipped.
 *
 * @throws Error if the program is not installed
 */
export function programPath(name: Program): string {
  const path = findProgram(name);
  if (path === null) throw new Error(notInstalled(name));
  return path;
}

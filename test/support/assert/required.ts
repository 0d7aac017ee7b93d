import type { TestContext } from 'node:test';
import { findProgram, type Program } from '../../setup/programs.ts';
import { inCi } from '../../setup/tools.ts';

/**
 * Why what needs `found` is skipped, as `skip` of a test or a suite takes it; false where it was found.
 *
 * @throws Error in CI, where what a test needs and cannot get is a failure
 */
export function whyNo(name: string, found: unknown): string | false {
  if (found !== null && found !== undefined) return false;
  const message = notInstalled(name);
  if (inCi()) throw new Error(message);
  return message;
}

/** Says that something is not there, and how to get it. */
export function notInstalled(name: string): string {
  return `no ${name} under the tools folder: run \`npm run setup:test\``;
}

/**
 * Skips the test where `found` is nothing, saying how to get it; in CI it fails.
 *
 * @returns null when the test was skipped and has to return
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
 * Starts a server that ends with the test, unless there is a reason to skip it.
 *
 * @returns null when the test was skipped and has to return
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
 * Returns the path of a program; a test that may be skipped asks {@link whyNo} first.
 *
 * @throws Error if the program is not installed
 */
export function programPath(name: Program): string {
  const path = findProgram(name);
  if (path === null) throw new Error(notInstalled(name));
  return path;
}

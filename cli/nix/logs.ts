import { maxLogBytes } from '../../core/limits.ts';
import type { Nix } from './nix.ts';

const cutNote = `\n[log truncated by niche after ${maxLogBytes} bytes]\n`;

/** Reads the build log of `drvPath` as plain text, or returns null when this machine has none. */
export async function readBuildLog(nix: Nix, drvPath: string): Promise<Uint8Array | null> {
  const maxBytes = maxLogBytes - cutNote.length;
  const { status, stdout, cut } = await nix.ask('nix-store', ['--read-log', drvPath], { maxBytes });
  if (status !== 0) return null;
  return cut ? Buffer.concat([stdout, Buffer.from(cutNote)]) : stdout;
}

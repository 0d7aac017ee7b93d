import { maxLogBytes } from '../../limits.ts';
import type { Realisation } from '../../nix/realisation.ts';
import { baseNameOf, storeHash } from '../../nix/store-path.ts';
import type { Bucket } from '../../storage/bucket.ts';
import { logKey } from '../layout.ts';
import { createBestEffort, readObject } from '../objects.ts';
import { readNarInfoOrNull } from '../read-narinfo.ts';

/**
 * Copies the build log of an output to the derivation of its realisation. With content-addressed inputs,
 * Nix builds another derivation, in which their paths are known. That one is the deriver of the output
 * and has the log, but `nix log` requests the log of the first one.
 */
export async function copyBuildLog(
  cache: Bucket,
  { drvPath, outPath }: Pick<Realisation, 'drvPath' | 'outPath'>,
  storeDir: string,
): Promise<void> {
  const narInfo = await readNarInfoOrNull(cache, storeHash(outPath), storeDir);
  if (!narInfo?.deriver || narInfo.deriver === drvPath) return;
  const log = await readObject(cache, logKey(baseNameOf(narInfo.deriver, storeDir)), maxLogBytes);
  if (log) await createBestEffort(cache, logKey(baseNameOf(drvPath, storeDir)), log);
}

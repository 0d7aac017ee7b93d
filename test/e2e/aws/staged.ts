import assert from 'node:assert/strict';
import { manifestKey, stagedNarsKey } from '../../../core/cache/layout.ts';
import type { BatchId } from '../../../core/cache/layout.ts';
import { formatManifest } from '../../../core/cache/manifest.ts';
import {
  listStrongestReceipts,
  readListedReceipt,
} from '../../../core/cache/receipts/listed-receipts.ts';
import type { Receipt, ReceiptStatus } from '../../../core/cache/receipts/receipts.ts';
import { newUploadId } from '../../../core/cache/upload-id.ts';
import { storeHash } from '../../../core/nix/store-path.ts';
import type { AwsCache } from '../../support/servers/aws-cache.ts';
import type { TestPath } from '../../support/cache/paths.ts';
import { until } from '../../support/assert/until.ts';

/** Stages these paths as one batch. Writes the manifest last, because it triggers the event. */
export async function stage(cache: AwsCache, ...paths: readonly TestPath[]): Promise<BatchId> {
  const id = { upload: newUploadId(), batch: 0 };
  const manifest = formatManifest({ encoding: 'none', paths: paths.map(({ info }) => info) });
  const nars = Buffer.concat(paths.map(({ nar }) => nar));
  await cache.staging.put(stagedNarsKey(id, 'none'), nars, { ifAbsent: true });
  await cache.staging.put(manifestKey(id), Buffer.from(manifest), { ifAbsent: true });
  return id;
}

/** Waits for a receipt of the path with one of these statuses, and returns it. */
export async function receiptOf(
  cache: AwsCache,
  { upload }: BatchId,
  { info }: TestPath,
  ...statuses: readonly ReceiptStatus[]
): Promise<Receipt> {
  const hash = storeHash(info.path);
  const find = async () => (await listStrongestReceipts(cache.staging, upload)).get(hash);
  await until(`${info.path} is ${statuses.join(' or ')}`, async () => {
    const found = await find();
    return found !== undefined && statuses.includes(found.status);
  });
  const listed = await find();
  const receipt = listed && (await readListedReceipt(cache.staging, listed));
  assert.ok(receipt);
  return receipt;
}

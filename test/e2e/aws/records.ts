import { readAuditRecords } from '../../../core/cache/audit.ts';
import type { AuditRecord } from '../../../core/cache/audit.ts';
import type { AwsCache } from '../../support/servers/aws-cache.ts';

/** Returns the last audit record of each path. */
export async function auditedStatus(cache: AwsCache): Promise<Map<string, AuditRecord>> {
  const records = new Map<string, AuditRecord>();
  for await (const record of readAuditRecords(cache.private)) records.set(record.path, record);
  return records;
}

import * as z from 'zod';

import { NicheError } from '../errors.ts';
import { fromPlain, isMap, toPlain } from './json-tree.ts';
import type { JsonMap, JsonValue } from './json-tree.ts';
import { recipientId } from './recipient.ts';
import type { KeyGroup, WrappedKey } from './recipient.ts';
import type { EncryptionRules } from './rules.ts';

/** The member of a document that holds SOPS's metadata. */
export const metadataName = 'sops';

/** The version of SOPS that defines this format, which new documents contain. */
export const sopsVersion = '3.13.3';
const newestMajor = 3;

/**
 * The metadata of a SOPS document. The MAC authenticates the values, `lastModified` and
 * `macOnlyEncrypted`, but not the recipients: anyone who can write the document can add one.
 */
export interface Metadata {
  readonly groups: readonly KeyGroup[];
  /** The number of groups that are needed; ignored for a single group. */
  readonly threshold: number;
  /** RFC 3339. */
  readonly lastModified: string;
  /** Encrypted. */
  readonly mac: string;
  readonly macOnlyEncrypted: boolean;
  readonly rules: EncryptionRules;
  readonly version: string;
}

const maxGroups = 255;
const maxKeys = 1_000;

const text = z.string().max(64 * 1024);
const wrapped = { created_at: text.nullish(), enc: text };
const other = z.array(z.looseObject({})).max(maxKeys).nullish();

const group = z.object({
  kms: z
    .array(
      z.object({
        arn: text,
        role: text.nullish(),
        aws_profile: text.nullish(),
        context: z.record(z.string(), z.string().nullable()).nullish(),
        ...wrapped,
      }),
    )
    .max(maxKeys)
    .nullish(),
  gcp_kms: z
    .array(z.object({ resource_id: text, ...wrapped }))
    .max(maxKeys)
    .nullish(),
  azure_kv: z
    .array(z.object({ vault_url: text, name: text, version: text, ...wrapped }))
    .max(maxKeys)
    .nullish(),
  pgp: z
    .array(z.object({ fp: text, ...wrapped }))
    .max(maxKeys)
    .nullish(),
  age: z
    .array(z.object({ recipient: text, enc: text }))
    .max(maxKeys)
    .nullish(),
  hc_vault: other,
  hckms: other,
});

const rules = z.object({
  unencrypted_suffix: text.optional(),
  encrypted_suffix: text.optional(),
  unencrypted_regex: text.optional(),
  encrypted_regex: text.optional(),
  unencrypted_comment_regex: text.optional(),
  encrypted_comment_regex: text.optional(),
});

const schema = z.object({
  ...group.shape,
  ...rules.shape,
  key_groups: z.array(group).max(maxGroups).nullish(),
  shamir_threshold: z.int().nonnegative().nullish(),
  lastmodified: text.regex(
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/,
    'expected a time',
  ),
  mac: text.nullish(),
  mac_only_encrypted: z.boolean().nullish(),
  version: text,
});

const versioned = z.object({ version: z.string() });

type Group = z.infer<typeof group>;

/**
 * Reads the `sops` member of a document.
 *
 * @throws NicheError `malformed-secrets`, `newer-version`; no message contains a value
 */
export function readMetadata(document: JsonMap, where: string): Metadata {
  const member = document.get(metadataName);
  if (!isMap(member)) {
    throw new NicheError(
      'malformed-secrets',
      `reading ${where}: expected a SOPS document, with a member "sops"`,
    );
  }
  const plain = toPlain(member);
  const version = versioned.safeParse(plain).data?.version ?? '';
  if (Number(/^(\d+)\./.exec(version)?.[1] ?? 0) > newestMajor) {
    throw new NicheError(
      'newer-version',
      `reading ${where}: expected a document of SOPS ${newestMajor} or older, got ${version.slice(0, 20)}`,
      { hint: 'upgrade niche on this machine' },
    );
  }
  const result = schema.safeParse(plain);
  if (!result.success) {
    throw new NicheError('malformed-secrets', `reading ${where}: ${describeFields(result.error)}`);
  }
  const { data } = result;
  const single = readGroup(data);
  // As in SOPS, keys at the top level take precedence over groups.
  const groups = single.length > 0 ? [single] : (data.key_groups ?? []).map(readGroup);
  if (groups.length === 0) {
    throw new NicheError('malformed-secrets', `reading ${where}: it has no recipients`);
  }
  return {
    groups,
    threshold: data.shamir_threshold ?? 0,
    lastModified: data.lastmodified,
    mac: data.mac ?? '',
    macOnlyEncrypted: data.mac_only_encrypted ?? false,
    rules: rules.parse(data),
    version: data.version,
  };
}

function readGroup(data: Group): WrappedKey[] {
  const times = (key: { created_at?: string | null | undefined; enc: string }) => ({
    wrapped: key.enc,
    createdAt: key.created_at ?? undefined,
  });
  return [
    ...(data.kms ?? []).map((key): WrappedKey => {
      const context = Object.entries(key.context ?? {}).filter(([, value]) => value !== null);
      return {
        recipient: {
          kind: 'aws-kms',
          arn: key.arn,
          ...((key.role ?? '') === '' ? {} : { role: key.role ?? '' }),
          ...((key.aws_profile ?? '') === '' ? {} : { profile: key.aws_profile ?? '' }),
          ...(context.length === 0
            ? {}
            : { context: Object.fromEntries(context) as Record<string, string> }),
        },
        ...times(key),
      };
    }),
    ...(data.gcp_kms ?? []).map((key): WrappedKey => ({
      recipient: { kind: 'gcp-kms', resourceId: key.resource_id },
      ...times(key),
    })),
    ...(data.azure_kv ?? []).map((key): WrappedKey => ({
      recipient: {
        kind: 'azure-kv',
        vaultUrl: key.vault_url,
        name: key.name,
        version: key.version,
      },
      ...times(key),
    })),
    ...(data.pgp ?? []).map((key): WrappedKey => ({
      recipient: { kind: 'pgp', fingerprint: key.fp.toUpperCase() },
      ...times(key),
    })),
    ...(data.age ?? []).map((key): WrappedKey => ({
      recipient: { kind: 'age', recipient: key.recipient },
      wrapped: key.enc,
    })),
    ...readOther(data, 'hc_vault'),
    ...readOther(data, 'hckms'),
  ];
}

function readOther(data: Group, list: 'hc_vault' | 'hckms'): WrappedKey[] {
  return (data[list] ?? []).map((record) => {
    const id = [record['key_name'], record['key_id']].find((value) => typeof value === 'string');
    return {
      recipient: { kind: 'other', id: `${list} ${(id ?? '').slice(0, 200)}` },
      wrapped: '',
      other: { list, record },
    };
  });
}

/** Formats the `sops` member, with the fields of `sops` in its order. */
export function formatMetadata(metadata: Metadata): JsonValue {
  const { groups, threshold, macOnlyEncrypted } = metadata;
  const [only] = groups;
  return fromPlain({
    ...(groups.length === 1 && only ? formatGroup(only) : {}),
    ...(groups.length > 1
      ? { shamir_threshold: threshold, key_groups: groups.map(formatGroup) }
      : {}),
    lastmodified: metadata.lastModified,
    mac: metadata.mac,
    ...metadata.rules,
    ...(macOnlyEncrypted ? { mac_only_encrypted: true } : {}),
    version: metadata.version,
  });
}

function formatGroup(keys: KeyGroup): Record<string, unknown[]> {
  const lists: Record<string, unknown[]> = {};
  for (const key of keys) {
    const [list, record] = formatKey(key);
    (lists[list] ??= []).push(record);
  }
  return lists;
}

function formatKey({
  recipient,
  wrapped: enc,
  createdAt,
  other: kept,
}: WrappedKey): [list: string, record: unknown] {
  const times = { created_at: createdAt, enc };
  switch (recipient.kind) {
    case 'age':
      return ['age', { recipient: recipient.recipient, enc }];
    case 'pgp':
      return ['pgp', { ...times, fp: recipient.fingerprint }];
    case 'aws-kms': {
      const { arn, role, context, profile = '' } = recipient;
      return ['kms', { arn, role, context, ...times, aws_profile: profile }];
    }
    case 'gcp-kms':
      return ['gcp_kms', { resource_id: recipient.resourceId, ...times }];
    case 'azure-kv': {
      const { vaultUrl, name, version } = recipient;
      return ['azure_kv', { vault_url: vaultUrl, name, version, ...times }];
    }
    case 'other':
      if (!kept) throw new TypeError(`${recipientId(recipient)} has no record`);
      return [kept.list, kept.record];
  }
}

/** Lists invalid fields, without their values. */
export function describeFields(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map(({ path, message }) => `${path.map(String).join('.') || 'the document'}: ${message}`)
    .join('; ');
}

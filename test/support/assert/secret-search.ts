import {
  GetObjectCommand,
  ListBucketsCommand,
  S3Client,
  paginateListObjectsV2,
} from '@aws-sdk/client-s3';
import type { Ministack } from '../servers/ministack.ts';

/** Written data and its location. */
export interface Written {
  readonly where: string;
  readonly bytes: Uint8Array;
}

export function writtenText(where: string, text: string): Written {
  return { where, bytes: Buffer.from(text) };
}

/** Returns where one of the secrets is, as plain text or in a reversible encoding. */
export function findSecrets(
  secrets: readonly (string | Uint8Array)[],
  written: readonly Written[],
): string[] {
  const forms = secrets.map(formsOf);
  return written
    .filter(({ bytes }) => {
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      return forms.some((all) => all.some((form) => text.includes(form)));
    })
    .map(({ where }) => where);
}

/** @throws Error for a secret that is too short, since it could occur by chance */
function formsOf(secret: string | Uint8Array): Buffer[] {
  const bytes = Buffer.from(secret);
  if (bytes.length < 16) throw new Error('a secret of less than 16 bytes cannot be searched for');
  const text = bytes.toString();
  return [
    bytes,
    Buffer.from(bytes.toString('hex')),
    Buffer.from(encodeURIComponent(text)),
    // In base64, at each offset: the characters that do not depend on neighbouring bytes.
    ...[0, 1, 2].map((offset) => {
      const encoded = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64');
      const end = encoded.length - (/=+$/.exec(encoded)?.[0].length ?? 0) - 1;
      return Buffer.from(encoded.slice(offset === 0 ? 0 : offset + 1, end));
    }),
  ];
}

/** Returns every object of every bucket of the account. */
export async function everyObject(aws: Ministack): Promise<Written[]> {
  const { endpoint, region, credentials } = aws;
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  const { Buckets = [] } = await client.send(new ListBucketsCommand({}));
  const written: Written[] = [];
  for (const { Name: Bucket } of Buckets) {
    for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket })) {
      for (const { Key } of Contents) {
        const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
        const bytes = await Body?.transformToByteArray();
        written.push({ where: `${Bucket}/${Key}`, bytes: bytes ?? new Uint8Array() });
      }
    }
  }
  return written;
}

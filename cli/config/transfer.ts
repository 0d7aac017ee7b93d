import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text as readAll } from 'node:stream/consumers';

import { readRequiredSecret, recipientsOfSecret } from '../../core/cache/keys/edit.ts';
import { openSecret, readSecret } from '../../core/cache/secret-documents.ts';
import { createSecrets } from '../../core/cache/keys/create.ts';
import { NicheError, messageOf, quote } from '../../core/errors.ts';
import type { Context } from '../process/context.ts';
import { keyringOf } from '../secrets/identities.ts';
import { openDocument, saveDocument } from './document.ts';
import type { ConfigFlags } from './document.ts';
import { assertStillApart } from './still-apart.ts';
import type { ApartFlags } from './still-apart.ts';
import { tryDocument } from './try-document.ts';

/** Runs `niche config download`. */
export async function downloadDocument(
  file: string | undefined,
  flags: ConfigFlags,
  context: Context,
): Promise<void> {
  const { kind, root } = await openDocument(flags, context);
  const { text } = await readRequiredSecret(root, kind);
  if (file === undefined) context.stdout.write(text);
  else await writeFile(path.resolve(context.cwd, file), text);
}

/** Runs `niche config upload`. */
export async function uploadDocument(
  file: string,
  flags: ApartFlags,
  context: Context,
): Promise<void> {
  const { cache, kind, root } = await openDocument(flags, context);
  const text = await readInput(file, context);
  const before = await readSecret(root, kind);
  const where = before?.where ?? `${kind.key} of ${root.url}`;
  const stored = { text, where: file, etag: '' };
  const { value } = await openSecret(stored, kind, keyringOf(context).identities);
  const recipients = recipientsOfSecret(stored);
  await assertStillApart(cache, flags, recipients);
  await tryDocument(value, cache, context);
  if (before) await saveDocument(root, kind, text, { stored: { ...before, where } }, context);
  else await createSecrets(cache, flags.signing ? { signing: text } : { client: text });
}

async function readInput(file: string, { cwd, stdin }: Context): Promise<string> {
  if (file === '-') return readAll(stdin);
  try {
    return await readFile(path.resolve(cwd, file), 'utf8');
  } catch (cause) {
    throw new NicheError('not-found', `cannot read ${quote(file)}: ${messageOf(cause)}`, { cause });
  }
}

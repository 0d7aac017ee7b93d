import { Argument } from 'commander';
import type { Command } from 'commander';

import { changeRecipients } from '../config/change-recipients.ts';
import type { RecipientsFlags } from '../config/change-recipients.ts';
import type { ConfigFlags } from '../config/document.ts';
import { editDocument } from '../config/edit.ts';
import { setPriority } from '../config/set.ts';
import type { SetFlags } from '../config/set.ts';
import { showDocument } from '../config/show.ts';
import type { ShowFlags } from '../config/show.ts';
import type { ApartFlags } from '../config/still-apart.ts';
import { downloadDocument, uploadDocument } from '../config/transfer.ts';
import type { Context } from '../process/context.ts';
import { addRecipientOptions } from '../init/recipients.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption, parsePriority } from '../ui/options.ts';

export function addConfig(program: Command, context: Context): void {
  const config = program
    .command('config')
    .summary('show or change the configuration of a cache')
    .description(
      'Shows or changes the two encrypted documents of a cache, which sops can read too: ' +
        'niche.client.json has what clients need to upload, niche.signing.json has the signing keys. ' +
        'niche config set changes the public nix-cache-info. ' +
        'To change any of them you need credentials that can write it.',
    );
  const add = (name: string, summary: string, description: string): Command =>
    addCacheOption(config.command(name).summary(summary).description(description)).option(
      '--signing',
      'use niche.signing.json instead of niche.client.json',
      false,
    );
  addShowDocument(add, context);
  addEditDocument(add, context);
  addTransfer(add, context);
  addRecipientChanges(add, context);
  addSet(config, context);
}

type AddCommand = (name: string, summary: string, description: string) => Command;

function addShowDocument(add: AddCommand, context: Context): void {
  const command = add(
    'show',
    'show the recipients and contents of a document',
    'Shows who can decrypt a document, and its contents without the secrets.',
  )
    .option('--reveal', 'show the secrets too', false)
    .option('--json', 'print the result as JSON', false)
    .action(async (flags: ShowFlags) => showDocument(flags, context));
  addExamples(
    command,
    'niche config show -u s3://acme',
    'niche config show -u s3://acme --signing',
  );
}

function addEditDocument(add: AddCommand, context: Context): void {
  const command = add(
    'edit',
    'change a document in an editor',
    'Opens a document in $VISUAL or $EDITOR, and stores it for the same recipients if it is valid and ' +
      'nobody else changed it meanwhile. On a terminal you can edit an invalid document again.',
  ).action(async (flags: ConfigFlags) => editDocument(flags, context));
  addExamples(
    command,
    'niche config edit -u s3://acme',
    'EDITOR="code --wait" niche config edit -u s3://acme --signing',
  );
}

function addTransfer(add: AddCommand, context: Context): void {
  const download = add(
    'download',
    'download a document, encrypted',
    'Writes a document, still encrypted, to a file or to standard output.',
  )
    .argument('[file]', 'target file (default: standard output)')
    .action(async (file: string | undefined, flags: ConfigFlags) =>
      downloadDocument(file, flags, context),
    );
  addExamples(
    download,
    'niche config download -u s3://acme niche.client.json',
    'niche config download -u s3://acme --signing > niche.signing.json',
  );
  const upload = add(
    'upload',
    'upload a document that sops or niche encrypted',
    'Stores a document that sops or niche encrypted, if this machine can decrypt it and it is valid.',
  )
    .argument('<file>', 'encrypted document, "-" for standard input')
    .option('--unsafe-share-signing-key', 'allow clients to read the signing key', false)
    .action(async (file: string, flags: ApartFlags) => uploadDocument(file, flags, context));
  addExamples(
    upload,
    'niche config upload -u s3://acme niche.client.json',
    'niche config upload -u s3://acme --signing niche.signing.json',
  );
}

function addRecipientChanges(add: AddCommand, context: Context): void {
  const added = add(
    'add-recipient',
    'let someone decrypt a document',
    'Encrypts a document for more recipients.',
  )
    .option('--unsafe-share-signing-key', 'allow clients to read the signing key', false)
    .optionsGroup('New recipients:')
    .action(async (flags: RecipientsFlags) => changeRecipients('add', flags, context));
  addExamples(
    addRecipientOptions(added, ''),
    'niche config add-recipient -u s3://acme --age age1…',
    'niche config add-recipient -u s3://acme --signing --aws-kms arn:aws:kms:…',
  );
  const removed = add(
    'remove-recipient',
    'stop someone from decrypting a document',
    'Encrypts a document without some of its recipients. They may have kept a copy: also replace the ' +
      'credentials in it.',
  )
    .optionsGroup('Recipients to remove:')
    .action(async (flags: RecipientsFlags) => changeRecipients('remove', flags, context));
  addExamples(
    addRecipientOptions(removed, ''),
    'niche config remove-recipient -u s3://acme --age age1…',
    'niche config remove-recipient -u s3://acme --pgp 7FB8…57C0',
  );
}

function addSet(config: Command, context: Context): void {
  const command = addCacheOption(
    config
      .command('set')
      .summary('change the priority of the cache')
      .description(
        'Changes a public setting. Nix tries substituters in the order of their priorities, lowest ' +
          'first; cache.nixos.org has 40. Nix caches a priority for up to 7 days.',
      )
      .addArgument(new Argument('<setting>', 'priority').choices(['priority']))
      .argument('<value>', 'whole number', parsePriority),
  )
    .option('--json', 'print the result as JSON', false)
    .action(async (_setting: string, value: number, flags: SetFlags) =>
      setPriority(value, flags, context),
    );
  addExamples(command, 'niche config set priority 30 -u s3://acme');
}

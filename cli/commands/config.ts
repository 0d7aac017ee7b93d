import type { Command } from 'commander';

import { changeRecipients } from '../config/change-recipients.ts';
import type { RecipientsFlags } from '../config/change-recipients.ts';
import type { ConfigFlags } from '../config/document.ts';
import { editDocument } from '../config/edit.ts';
import { showDocument } from '../config/show.ts';
import type { ShowFlags } from '../config/show.ts';
import type { ApartFlags } from '../config/still-apart.ts';
import { downloadDocument, uploadDocument } from '../config/transfer.ts';
import type { Context } from '../process/context.ts';
import { addRecipientOptions } from '../init/recipients.ts';
import { addCacheOption } from '../ui/options.ts';

export function addConfig(program: Command, context: Context): void {
  const config = program
    .command('config')
    .summary('the cache’s encrypted configuration')
    .description(
      'Shows or changes the two secret documents of a cache, which the real sops reads as well: niche.private.json, what clients need to stage; with --signing niche.signing.json, what the publisher signs with. To change them takes credentials of one’s own that may write there.',
    );
  const add = (name: string, summary: string, description: string): Command =>
    addCacheOption(config.command(name).summary(summary).description(description)).option(
      '--signing',
      'niche.signing.json, instead of niche.private.json',
      false,
    );

  add(
    'show',
    'who can read it, and what it says',
    'Shows for whom a document is encrypted, and what it says, secrets left out.',
  )
    .option('--reveal', 'show the secrets too', false)
    .option('--json', 'print the result as JSON', false)
    .addHelpText('after', examples('niche config show -u https://cache.example.org'))
    .action(async (flags: ShowFlags) => showDocument(flags, context));
  add(
    'edit',
    'change it in an editor',
    'Opens a document in VISUAL or EDITOR, and puts it back, encrypted for the same recipients, if it is valid and nobody else changed it meanwhile. What is not valid can be edited again, on a terminal.',
  )
    .addHelpText(
      'after',
      examples('EDITOR="code --wait" niche config edit -u https://cache.example.org'),
    )
    .action(async (flags: ConfigFlags) => editDocument(flags, context));
  add(
    'download',
    'the document as it is, encrypted',
    'Writes a document as it is, encrypted, to a file or stdout, as for sops.',
  )
    .argument('[file]', 'where to; else stdout')
    .addHelpText(
      'after',
      examples('niche config download -u https://cache.example.org niche.private.json'),
    )
    .action(async (file: string | undefined, flags: ConfigFlags) =>
      downloadDocument(file, flags, context),
    );
  add(
    'upload',
    'a document that sops or niche made',
    'Puts a document there that sops or niche made, if this machine can decrypt it and it is valid.',
  )
    .argument('<file>', 'the encrypted document, "-" for stdin')
    .option('--unsafe-share-signing-key', 'even if clients could read the signing key', false)
    .addHelpText(
      'after',
      examples('niche config upload -u https://cache.example.org niche.private.json'),
    )
    .action(async (file: string, flags: ApartFlags) => uploadDocument(file, flags, context));
  addRecipientOptions(
    add(
      'add-recipient',
      'let someone read it',
      'Encrypts a document for one more recipient, or several.',
    ),
    '',
    'whoever is to read it',
  )
    .option('--unsafe-share-signing-key', 'even if clients could read the signing key', false)
    .addHelpText(
      'after',
      examples('niche config add-recipient -u https://cache.example.org --age age1…'),
    )
    .action(async (flags: RecipientsFlags) => changeRecipients('add', flags, context));
  addRecipientOptions(
    add(
      'remove-recipient',
      'let someone read it no more',
      'Encrypts a document anew without some of its recipients. What they have saved they can still read: replace the credentials in it as well.',
    ),
    '',
    'whoever is not to read it any more',
  )
    .addHelpText(
      'after',
      examples('niche config remove-recipient -u https://cache.example.org --pgp 7FB8…57C0'),
    )
    .action(async (flags: RecipientsFlags) => changeRecipients('remove', flags, context));
}

function examples(line: string): string {
  return `\nExamples:\n  ${line}`;
}

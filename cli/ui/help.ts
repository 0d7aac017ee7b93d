import type { Command, Option } from 'commander';

import { redactSecrets } from '../../core/redact.ts';

/** Adds command lines to the help of a command, two to four. */
export function addExamples(command: Command, ...lines: readonly string[]): Command {
  return command.addHelpText(
    'after',
    `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`,
  );
}

/** Sets how the help and the usage errors of `command` and its subcommands look. Call it last. */
export function styleHelp(command: Command, path: readonly string[] = [command.name()]): void {
  if (command.optionsGroup() !== '') command.optionsGroup('Other:');
  command
    .configureHelp({
      argumentDescription: ({ description }) => description,
      optionDescription: describeOption,
    })
    .helpOption('-h, --help', 'show help')
    .showHelpAfterError(`hint: run ${path.join(' ')} --help`);
  for (const sub of command.commands) {
    if (sub.commands.length > 0) sub.helpCommand('help [command]', 'show the help of a command');
    styleHelp(sub, [...path, sub.name()]);
  }
}

/** Turns a message of commander into one of niche: `<what failed>: <reason>`, without secrets. */
export function toUsageError(text: string): string {
  return redactSecrets(text)
    .replace(/^error: /, 'niche: ')
    .replace('command-argument value', 'value')
    .replace(/ is invalid\. (?=\p{Ll})/u, ' is invalid: ');
}

/** commander would also list the choices, which the descriptions explain, and the default of switches. */
function describeOption({ description, defaultValue, defaultValueDescription }: Option): string {
  const isShown = typeof defaultValue === 'string' || typeof defaultValue === 'number';
  const text = defaultValueDescription ?? (isShown ? String(defaultValue) : undefined);
  return text === undefined ? description : `${description} (default: ${text})`;
}

import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { openCacheReader } from '../../core/cache/open.ts';
import type { ReadableCache } from '../../core/cache/open.ts';
import { NicheError, isNicheError, messageOf, quote } from '../../core/errors.ts';
import { storageUrlOf } from '../../core/storage/open/discover-url.ts';
import { recogniseStorage } from '../serve/discover-server.ts';
import { assertKeysPinned, isWebUrl, trustedKeys, parseCacheAddress } from '../cache/address.ts';
import type { CacheAddress } from '../cache/address.ts';
import { isDebugging } from '../process/context.ts';
import type { Context } from '../process/context.ts';
import { ownAccess } from '../cache/open.ts';
import { isLoopback } from '../../core/util/loopback.ts';
import { serveCache } from '../serve/server.ts';
import type { Access } from '../serve/server.ts';
import { stopSignal } from '../process/stop-signal.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption } from '../ui/options.ts';

interface ServeFlags {
  readonly cacheUrl?: string;
  readonly port: number;
  readonly host: string;
  readonly log: boolean;
  readonly json: boolean;
}

/** What other servers of Nix caches have. */
const defaultPort = 5000;

export function addServe(program: Command, context: Context): void {
  const command = addCacheOption(
    program
      .command('serve')
      .summary('serve a cache to this machine over HTTP')
      .description(
        'Serves a cache over HTTP, read-only, and prints the URL. It lets any Nix read a private bucket ' +
          'with the credentials of this machine. On SIGTERM or Ctrl-C it finishes running requests.',
      )
      .argument('[url]', 'cache URL (default: -u)'),
  )
    .addOption(
      new Option('--port <number>', 'port; 0 for a free one')
        .argParser(parsePort)
        .default(defaultPort),
    )
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--log', 'log each request to standard error', false)
    .option('--json', 'print the URL and the public keys as JSON', false)
    .action(async (url: string | undefined, flags: ServeFlags) => {
      await serve(url, flags, context);
    });
  addExamples(
    command,
    "niche serve 's3://acme?region=eu-central-1'",
    'niche serve acme.s3.eu-central-1.amazonaws.com',
    `niche use 'http://127.0.0.1:${defaultPort}' --write     # on the same machine`,
  );
}

async function serve(url: string | undefined, flags: ServeFlags, context: Context): Promise<void> {
  const named = parseCacheAddress(url ?? flags.cacheUrl, [], context);
  const stop = stopSignal();
  const { reader, config } = await openNamed(named, context);
  trustedKeys(named, config);
  const logsAll = flags.log || isDebugging(context);
  const server = await serveCache({
    reader,
    host: flags.host,
    port: flags.port,
    onRequest: (access) => {
      if (logsAll || access.error) context.stderr.write(accessLine(access));
    },
  });
  if (!isLoopback(server.address)) {
    context.stderr.write(
      `niche: warning: other machines can reach ${server.address}: whoever does can read this cache, and over plain HTTP readers should compare its public key\n`,
    );
  }
  const { url: address } = server;
  context.stdout.write(
    flags.json
      ? `${JSON.stringify({ url: address, name: config.name, publicKeys: config.publicKeys })}\n`
      : `${address}\n`,
  );
  context.stderr.write(`niche: serving ${config.name} from ${reader.url}; Ctrl-C ends it\n`);
  if (!stop.aborted) {
    await new Promise((resolve) => {
      stop.addEventListener('abort', resolve, { once: true });
    });
  }
  await server.close();
}

/**
 * Opens what is served: a storage, by its own URL or by one that it is known by, as
 * `https://acme.s3.amazonaws.com`, with this machine's credentials; any other web server as everyone
 * reads it.
 *
 * @throws NicheError what {@link openCacheReader} throws, with the storage's own URL where it is private
 */
async function openNamed(named: CacheAddress, context: Context): Promise<ReadableCache> {
  const { url } = named;
  const storage = isWebUrl(url) ? storageUrlOf(url) : url;
  if (storage !== null) return openCacheReader(storage, ownAccess(context));
  assertKeysPinned(named);
  try {
    return await openCacheReader(url, ownAccess(context));
  } catch (error) {
    const found = isNicheError(error) ? await recogniseStorage(url) : null;
    if (!isNicheError(error) || found === null) throw error;
    const { code, message } = error;
    throw new NicheError(code, message, {
      cause: error,
      hint: `if it is private, name the storage itself, and it is read with this machine’s credentials: niche serve -u '${found}'`,
    });
  }
}

function accessLine({ client, method, url, status, durationMs, ...rest }: Access): string {
  const cut = rest.complete ? '' : ', broken off';
  const why = rest.error ? `: ${messageOf(rest.error)}` : '';
  return `niche: ${client} ${method} ${quote(url)} ${status}${cut} (${durationMs} ms)${why}\n`;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^[0-9]+$/.test(text) && port < 65_536) return port;
  throw new InvalidArgumentError('expected a port, 0 to 65535');
}

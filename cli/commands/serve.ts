import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';

import { assertNotForgeable } from '../../core/cache/plain-http.ts';
import { openCacheReader } from '../../core/cache/open.ts';
import type { ReadableCache } from '../../core/cache/open.ts';
import { NicheError, isNicheError, messageOf, quote } from '../../core/errors.ts';
import { storageUrlOf } from '../../core/storage/open/discover-url.ts';
import { discoverStorage } from '../serve/discover-server.ts';
import { isWebUrl, trustedKeys, parseCacheAddress } from '../cache/address.ts';
import type { CacheAddress } from '../cache/address.ts';
import { isDebugging } from '../process/context.ts';
import type { Context } from '../process/context.ts';
import { ownAccess } from '../cache/open.ts';
import { shellWord } from '../../core/util/shell.ts';
import { hostnameOf, isLoopback } from '../../core/util/loopback.ts';
import { serveCache } from '../serve/server.ts';
import type { Access } from '../serve/server.ts';
import { stopSignal } from '../process/stop-signal.ts';
import { addExamples } from '../ui/help.ts';
import { addCacheOption } from '../ui/options.ts';

interface ServeFlags {
  readonly cacheUrl?: string;
  readonly port: number;
  readonly host: string;
  readonly allowHost: readonly string[];
  readonly log: boolean;
  readonly json: boolean;
}

/** The default port of other servers of Nix caches. */
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
    .addOption(
      new Option(
        '--allow-host <name>',
        'answer requests for this host name too, such as a proxy’s; repeatable',
      )
        .argParser(addHostName)
        .default([], 'only this machine’s'),
    )
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
  const cacheAddress = parseCacheAddress(url ?? flags.cacheUrl, [], context);
  const stop = stopSignal();
  const { reader, config } = await openServedCache(cacheAddress, context);
  trustedKeys(cacheAddress, config);
  const logsAll = flags.log || isDebugging(context);
  const server = await serveCache({
    reader,
    host: flags.host,
    port: flags.port,
    allowedHosts: flags.allowHost,
    onRequest: (access) => {
      if (logsAll || access.error) context.stderr.write(accessLine(access));
    },
  });
  if (!isLoopback(server.address)) {
    context.stderr.write(
      `niche: warning: other machines can read this cache at ${quote(server.address)}; over plain HTTP readers must pin its public key\n`,
    );
  }
  const { url: address } = server;
  context.stdout.write(
    flags.json
      ? `${JSON.stringify({ url: address, name: config.name, publicKeys: config.publicKeys })}\n`
      : `${address}\n`,
  );
  context.stderr.write(`niche: serving ${config.name} from ${reader.url}; press Ctrl-C to stop\n`);
  if (!stop.aborted) {
    await new Promise((resolve) => {
      stop.addEventListener('abort', resolve, { once: true });
    });
  }
  await server.close();
}

/**
 * Opens the cache to serve. It reads storage with this machine's credentials, also for a web address of
 * storage such as `https://acme.s3.amazonaws.com`, and any other web server without.
 *
 * @throws NicheError `insecure-url` over plain HTTP from another machine; the codes of {@link openCacheReader}; the hint has the storage URL if the
 *   server may be private storage
 */
async function openServedCache(address: CacheAddress, context: Context): Promise<ReadableCache> {
  const { url } = address;
  const storage = isWebUrl(url) ? storageUrlOf(url) : url;
  if (storage !== null) return openCacheReader(storage, ownAccess(context));
  // Clients of this server trust its niche.json, as they do on any loopback address.
  assertNotForgeable(url);
  try {
    return await openCacheReader(url, ownAccess(context));
  } catch (error) {
    const found = isNicheError(error) ? await discoverStorage(url) : null;
    if (!isNicheError(error) || found === null) throw error;
    const { code, message } = error;
    throw new NicheError(code, message, {
      cause: error,
      hint: `to read it with this machine’s credentials, run niche serve ${shellWord(found)}`,
    });
  }
}

function accessLine({ client, method, url, status, durationMs, ...rest }: Access): string {
  const cut = rest.complete ? '' : ', aborted';
  const why = rest.error ? `: ${messageOf(rest.error)}` : '';
  return `niche: ${client} ${method} ${quote(url)} ${status}${cut} (${durationMs} ms)${why}\n`;
}

function addHostName(text: string, previous: readonly string[]): readonly string[] {
  const hostname = hostnameOf(text);
  if (hostname !== null && hostname === text.toLowerCase()) return [...previous, hostname];
  throw new InvalidArgumentError('expected a host name without a port, such as cache.example.org');
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^[0-9]+$/.test(text) && port < 65_536) return port;
  throw new InvalidArgumentError('expected a port, 0 to 65535');
}

import { BlockList, isIP } from 'node:net';

import { NicheError } from '../errors.ts';
import { isLoopbackHost } from './loopback.ts';

/** The proxies of a machine. */
export interface Proxies {
  /** Whether HTTPS requests to most hosts go through a proxy. */
  readonly hasProxy: boolean;
  /**
   * Returns the URL of the proxy for requests to `url`; null to connect directly.
   *
   * @throws NicheError `usage` for a proxy that niche does not support
   */
  proxyFor(url: URL): string | null;
}

export const noProxies: Proxies = { hasProxy: false, proxyFor: () => null };

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Hosts that give this machine its credentials, on AWS, Azure, Google Cloud, and in containers of ECS and
 * EKS. A proxy would get them, or those of its own machine.
 */
const metadata: ReadonlySet<string> = new Set([
  ...['169.254.169.254', '169.254.170.2', '169.254.170.23', '168.63.129.16'],
  ...['fd00:ec2::254', 'fd00:ec2::23', 'metadata', 'metadata.google.internal'],
]);

/** Hosts that are never reached through a proxy, for libraries that read `NO_PROXY` themselves. */
export const directHosts: readonly string[] = [
  ...metadata,
  // Google's library writes it so, and compares whole names.
  'metadata.google.internal.',
  ...['localhost', '127.0.0.1', '::1'],
];

/**
 * Reads the variables of curl, and so of Nix: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`. All
 * but `http_proxy` may be in upper case: a web server sets `HTTP_PROXY` from a header of its client.
 *
 * @see https://curl.se/docs/manpage.html#ENVIRONMENT
 */
export function readProxies(env: Environment): Proxies {
  const read = (name: string): string | undefined => nonEmpty(env[name]);
  const all = read('all_proxy') ?? read('ALL_PROXY');
  const proxies: Readonly<Record<string, string | undefined>> = {
    'http:': read('http_proxy') ?? all,
    'https:': read('https_proxy') ?? read('HTTPS_PROXY') ?? all,
  };
  const bypasses = readNoProxy(read('no_proxy') ?? read('NO_PROXY') ?? '');
  return {
    hasProxy: proxies['https:'] !== undefined,
    proxyFor({ protocol, hostname }) {
      const proxy = proxies[protocol];
      if (proxy === undefined) return null;
      const host = hostname.replaceAll(/^\[|\]$/g, '').replace(/\.$/, '');
      if (isLoopbackHost(hostname) || metadata.has(host) || bypasses(host)) return null;
      return completeProxy(proxy);
    },
  };
}

/** As curl, adds the scheme http and the port 1080. */
function completeProxy(text: string): string {
  const proxy = /^[a-z0-9+.-]+:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.parse(proxy);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new NicheError(
      'usage',
      `connecting through a proxy: expected one with http:// or https://, got ${url?.protocol ?? 'no URL'}`,
      { hint: 'set https_proxy to an HTTP proxy, or no_proxy to the hosts to reach without one' },
    );
  }
  const hasPort = /:[0-9]+\/?$/.test(proxy);
  if (url.protocol === 'http:' && !hasPort) url.port = '1080';
  return url.href;
}

/**
 * Reads a list of host names, IP addresses and networks. A name also stands for its subdomains, `*` alone
 * for every host.
 *
 * @returns whether a host, an IPv6 address without brackets, is in the list
 */
function readNoProxy(text: string): (host: string) => boolean {
  if (text.trim() === '*') return () => true;
  const names: string[] = [];
  const networks = new BlockList();
  for (const entry of text.toLowerCase().split(/[\s,]+/)) {
    const [address = '', prefix] = entry.replaceAll(/[[\]]/g, '').split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    const longest = family === 'ipv6' ? 128 : 32;
    const bits = prefix === undefined ? longest : Number(prefix);
    if (isIP(address) === 0) names.push(entry.replaceAll(/^\.|\.$/g, ''));
    else if (bits >= 0 && bits <= longest) networks.addSubnet(address, bits, family);
  }
  return (host) =>
    isIP(host) === 0
      ? names.some((name) => name !== '' && (host === name || host.endsWith(`.${name}`)))
      : networks.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4');
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

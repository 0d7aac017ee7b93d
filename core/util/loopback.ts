import { BlockList, isIP } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8);
loopback.addAddress('::1', 'ipv6');

/** Returns whether an IP address is reachable from this machine only. */
export function isLoopback(address: string): boolean {
  return loopback.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

/** Returns whether the host of a URL is `localhost` or a loopback address. Asks no DNS server. */
export function isLoopbackHost(hostname: string): boolean {
  const address = hostname.replaceAll(/^\[|\]$/g, '');
  return hostname === 'localhost' || (isIP(address) !== 0 && isLoopback(address));
}

/** Returns the host name in a `Host` header, as `URL` spells it; null if it is missing or malformed. */
export function hostnameOf(header: string | undefined): string | null {
  if (header === undefined || !/^[^\s/?#@\\]+$/.test(header)) return null;
  return URL.parse(`http://${header}`)?.hostname ?? null;
}

/** Returns whether `url` is read over plain HTTP from another machine, so that it can be forged. */
export function isRemotePlainHttp(url: string): boolean {
  const parsed = URL.parse(url);
  return parsed?.protocol === 'http:' && !isLoopbackHost(parsed.hostname);
}

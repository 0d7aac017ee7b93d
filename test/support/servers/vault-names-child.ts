/** Loaded before a program (`node --import`): vaults of Azure are looked for on this machine. */
import dns from 'node:dns';

const { lookup } = dns;
const atHome = (host: string, ...rest: unknown[]): void => {
  const name = host.endsWith('.vault.azure.net') ? '127.0.0.1' : host;
  Reflect.apply(lookup, dns, [name, ...rest]);
};
dns.lookup = Object.assign(atHome, lookup);

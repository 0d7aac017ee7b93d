/** Resolves the host names of Azure's vaults to this machine. Load it with `node --import`. */
import dns from 'node:dns';

const { lookup } = dns;
const atHome = (host: string, ...rest: unknown[]): void => {
  const name = host.endsWith('.vault.azure.net') ? '127.0.0.1' : host;
  Reflect.apply(lookup, dns, [name, ...rest]);
};
dns.lookup = Object.assign(atHome, lookup);

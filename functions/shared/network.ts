import { configureNetwork } from '../../core/util/network.ts';

/** Uses the proxies and the certificate authorities of the function's environment. */
export function useNetworkSettings(): void {
  const warning = configureNetwork(process.env);
  if (warning !== null) process.emitWarning(warning);
}

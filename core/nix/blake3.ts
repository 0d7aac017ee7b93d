/** The only part of the library that niche uses, as a file of its own: bundles contain no other. */
export { createBLAKE3 } from 'hash-wasm';

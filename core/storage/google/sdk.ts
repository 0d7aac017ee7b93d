/** What the driver takes of the SDK, in a module of its own so that it is loaded on first use. */
export { Storage } from '@google-cloud/storage';
export { JWT } from 'google-auth-library';

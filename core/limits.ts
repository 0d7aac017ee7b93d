const kib = 1024;
const mib = 1024 * kib;
const gib = 1024 * mib;

/** A manifest's size, in bytes. */
export const maxManifestBytes = mib;
/** Paths in one batch. */
export const maxBatchPaths = 256;
/** Small NARs share a batch until their sum would pass this, in bytes; a larger one is alone. */
export const maxBatchNarBytes = 8 * mib;
/** References of one path. */
export const maxReferences = 10_000;
/** A NAR entry's name, in bytes, as current Nix bounds it (NAME_MAX). */
export const maxNarNameBytes = 255;
/** A symlink's target in a NAR, in bytes (PATH_MAX less its NUL). */
export const maxNarTargetBytes = 4095;
/** A NAR's directories nest less deep than this; current Nix installs nothing deeper. */
export const maxNarDepth = 64;
/** The default for a NAR's size, in bytes; a cache may set its own. */
export const defaultMaxNarBytes = 64 * gib;
/** Entries in a NAR listing; beyond, no `.ls` is written. */
export const maxListingEntries = 250_000;
/** A build log, in bytes. */
export const maxLogBytes = 16 * mib;
/** The zstd window accepted when decoding, as log2 of bytes. */
export const maxZstdWindowLog = 27;
/** Store paths named at most in a receipt's `missing`. */
export const maxNamedMissing = 100;
/** Receipts in one object, in bytes. 256 published paths take some 30 KiB. */
export const maxReceiptBytes = mib;
/** A message or a warning in a receipt, in characters: 17 texts, all escaped, fit in `maxReceiptBytes`. */
export const maxReceiptTextLength = 8 * kib;
/** Warnings in a receipt. */
export const maxReceiptWarnings = 16;
/** Unclaimed store paths named at most in a receipt's warnings. */
export const maxNamedUnclaimed = 20;
/** A narinfo, in bytes: 10,000 references of 255 characters and some. */
export const maxNarInfoBytes = 4 * mib;
/** niche's own small JSON documents (config, receipts, audit records), in bytes. */
export const maxDocumentBytes = 8 * mib;
/** A secret document, in bytes: some hundreds of recipients. */
export const maxSecretDocumentBytes = mib;
/** Attempts at which a publisher may die on one path before the path is rejected. */
export const maxAttempts = 5;
/** A `.drv` file, in bytes; structured attributes make some of several MiB. */
export const maxDerivationBytes = 64 * mib;
/** Outputs of outputs among a derivation's inputs nest less deep than this. */
export const maxDerivationDepth = 32;

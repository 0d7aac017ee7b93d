const kib = 1024;
const mib = 1024 * kib;
const gib = 1024 * mib;

/** The size of a manifest, in bytes. */
export const maxManifestBytes = mib;
/** Paths in one batch. */
export const maxBatchPaths = 256;
/** The sum of the NARs in a batch, in bytes; a larger NAR has a batch of its own. */
export const maxBatchNarBytes = 8 * mib;
/** Realisations in one batch: a manifest of this many has some 100 KiB. */
export const maxBatchRealisations = 256;
/** A stored realisation, in bytes. Nix's own have less than 1 KiB, plus 150 bytes a signature. */
export const maxRealisationBytes = 64 * kib;
/** References of one path. */
export const maxReferences = 10_000;
/** The name of a NAR entry, in bytes (narMaxName in Nix's archive.cc). */
export const maxNarNameBytes = 255;
/** The target of a symlink in a NAR, in bytes (narMaxTarget in Nix's archive.cc). */
export const maxNarTargetBytes = 4095;
/** The depth of a NAR's directories stays below this (narMaxDepth in archive.cc, since Nix 2.35). */
export const maxNarDepth = 64;
/** The default limit for a NAR, in bytes; a cache may set its own. */
export const defaultMaxNarBytes = 64 * gib;
/**
 * Occurrences of its own store hash in a content-addressed path. Nix hashes their offsets after the
 * contents, so a publisher holds them all, in 8 bytes each.
 */
export const maxSelfReferences = 1_000_000;
/** Entries of directories that are held to compute a Git hash, in bytes: some 300,000 entries. */
export const maxGitTreeBytes = 16 * mib;
/** A NAR listing, in bytes: some 200,000 entries. A NAR with more gets no `.ls`. */
export const maxListingBytes = 16 * mib;
/** A listing that is searched for debug files, in bytes: parsed, it takes some ten times as much. */
export const maxDebugListingBytes = 2 * mib;
/** Debug files of one path that can be found by their build ID. */
export const maxDebugFiles = 10_000;
/** A build log, in bytes. */
export const maxLogBytes = 16 * mib;
/** The zstd window accepted when decoding, as log2 of bytes. */
export const maxZstdWindowLog = 27;
/**
 * The zstd window accepted when decoding staged NARs, as log2 of bytes: up to level 19, zstd needs no
 * larger one. A decoder holds as much, and two batches are published at once.
 */
export const maxStagedWindowLog = 23;
/**
 * The raw size of staged NARs for each byte staged with zstd, beyond {@link freeExpandedBytes}. Zeros
 * would take hours of a publisher for some KiB; a client can stage such a NAR raw.
 */
export const maxStagedExpansion = 256;
/** Staged NARs of this size may be compressed to anything, in bytes. */
export const freeExpandedBytes = 64 * mib;
/** Store paths in a receipt's `missing`. */
export const maxNamedMissing = 100;
/** Receipts in one object, in bytes. 256 published paths take some 30 KiB. */
export const maxReceiptBytes = mib;
/** A message or a warning in a receipt, in characters: 17 texts, all escaped, fit in `maxReceiptBytes`. */
export const maxReceiptTextLength = 8 * kib;
/** Warnings in a receipt. */
export const maxReceiptWarnings = 16;
/** Unclaimed store paths in a receipt's warnings. */
export const maxNamedUnclaimed = 20;
/** A narinfo, in bytes: more than 10,000 references of 255 characters. */
export const maxNarInfoBytes = 4 * mib;
/**
 * Levels of objects and arrays in a JSON document, to bound the recursion over it. A NAR listing, the
 * deepest document, has two for each level of directories.
 */
export const maxJsonDepth = 256;
/** niche's own small JSON documents (config, receipts, audit records), in bytes. */
export const maxDocumentBytes = 8 * mib;
/** The longest time in which a document, read whole, has to arrive, in milliseconds. */
export const maxDocumentMs = 120_000;
/** A secret document, in bytes: hundreds of recipients. */
export const maxSecretDocumentBytes = mib;
/** Crashes of a publisher on one path, or failures to read it, before the path is rejected. */
export const maxAttempts = 5;
/** A `.drv` file, in bytes; structured attributes can take several MiB. */
export const maxDerivationBytes = 64 * mib;
/** The nesting of outputs of outputs among a derivation's inputs stays below this. */
export const maxDerivationDepth = 32;

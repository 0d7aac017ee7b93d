/**
 * Parses damaged narinfos and compares the results with Nix, if the test tools include it:
 *
 *     node test/fuzz/narinfo.ts [count] [seed]
 *
 * Nix must accept every narinfo that the parser accepts, with the same fields. Each must also survive
 * formatting and parsing unchanged. (The parser may refuse ambiguous narinfos that Nix accepts.)
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { join } from 'node:path';
import { argv } from 'node:process';
import { isNicheError, messageOf } from '../../core/errors.ts';
import { formatNarInfo, parseNarInfo } from '../../core/nix/narinfo.ts';
import type { NarInfo } from '../../core/nix/narinfo.ts';
import { parsePathInfos } from '../../core/nix/path-info.ts';
import type { PathInfo } from '../../core/nix/path-info.ts';
import { nixOracle } from './oracle.ts';
import type { Oracle } from './oracle.ts';
import { randomOf } from './random.ts';
import type { Random } from './random.ts';

export interface FuzzReport {
  readonly taken: number;
  readonly refused: number;
  /** Contradictions found, each with its narinfo. */
  readonly faults: readonly string[];
}

const hash = '4w8x1bw5qbbqksjb9ifwlcq77b9gvc66';
const other = 'dra1cz5vbrhclpv4y1q0psnbkxz581bk';
const digest = '1mqvph3ws2qbb4yn38gssfayrfikwmvbly72q9p2dscdb0cg5afs';
const signature = Buffer.alloc(64, 7).toString('base64');

const lines = [
  `StorePath: /nix/store/${hash}-name`,
  `URL: nar/${digest}.nar.zst`,
  'Compression: zstd',
  `FileHash: sha256:${digest}`,
  'FileSize: 1234',
  `NarHash: sha256:${digest}`,
  'NarSize: 5678',
  `References: ${hash}-name ${other}-other`,
  `Deriver: ${other}-name.drv`,
  `Sig: key-1:${signature}`,
  'Custom: value',
];

const pieces = [
  ' ',
  ': ',
  ':',
  '\r',
  '\t',
  '-',
  '0',
  '/',
  '=',
  '.',
  'é',
  '\n',
  ' x',
  other,
  'sha1:',
];

/** Returns a narinfo with up to three faults. Keeps the first line, which Nix needs to find it. */
function narInfoFrom(random: Random): string {
  const damaged = [...lines];
  for (let faults = random(4); faults > 0; faults--) {
    const at = 1 + random(damaged.length - 1);
    const line = damaged[at] ?? '';
    const position = random(line.length + 1);
    const piece = pieces[random(pieces.length)] ?? '';
    const changes = [
      () => damaged.splice(at, 1),
      () => damaged.splice(1 + random(damaged.length), 0, line),
      () => (damaged[at] = line.slice(0, position) + piece + line.slice(position)),
      () => (damaged[at] = line.slice(0, position) + line.slice(position + 1)),
      () => (damaged[at] = line.slice(0, position)),
      () => damaged.push(damaged.splice(at, 1)[0] ?? ''),
    ];
    changes[random(changes.length)]?.();
  }
  return `${damaged.join('\n')}${random(20) === 0 ? '' : '\n'}`;
}

/** Returns the parsed narinfo, or null if the parser refuses it. */
function parsed(text: string): NarInfo | null {
  try {
    return parseNarInfo(text);
  } catch (error) {
    if (isNicheError(error, 'malformed-narinfo')) return null;
    throw error;
  }
}

/** Returns the signed fields, and the other fields that both must agree on. */
const essence = ({ path, narHash, narSize, references, deriver, ca }: PathInfo): unknown => {
  return { path, narHash, narSize, references, deriver, ca };
};

function objectionOf(info: NarInfo, text: string, folder: string, nix: Oracle): string | null {
  writeFileSync(join(folder, `${hash}.narinfo`), text);
  const args = ['path-info', '--json', '--json-format', '1', '--store', `file://${folder}`];
  const { status, stdout, stderr } = nix(folder, 'nix', [...args, info.path]);
  if (status !== 0) return `Nix refuses it: ${stderr.toString().trim()}`;
  const understood = parsePathInfos(JSON.parse(stdout.toString())).valid[0];
  if (!understood) return 'Nix does not find it';
  return isDeepStrictEqual(essence(understood), essence(info)) ? null : 'Nix reads something else';
}

/**
 * Returns the formatted narinfo, or null with a malformed signature, which is never formatted. The
 * parser accepts malformed signatures, like Nix up to 2.26: they prove nothing.
 */
function printed(info: NarInfo): string | null {
  try {
    return formatNarInfo(info);
  } catch (error) {
    if (isNicheError(error, 'malformed-signature')) return null;
    throw error;
  }
}

export function fuzzNarInfo(options: {
  /** Number of narinfos to test. */
  readonly count: number;
  readonly seed: number;
  /** The Nix to check accepted narinfos with. */
  readonly oracle: Oracle | null;
}): FuzzReport {
  const random = randomOf(options.seed);
  const folder = mkdtempSync(join(tmpdir(), 'niche-fuzz-'));
  const faults: string[] = [];
  let taken = 0;
  try {
    writeFileSync(join(folder, 'nix-cache-info'), 'StoreDir: /nix/store\n');
    for (let turn = 0; turn < options.count; turn++) {
      const text = narInfoFrom(random);
      try {
        const info = parsed(text);
        if (!info) continue;
        taken++;
        const again = printed(info);
        if (again === null) continue;
        if (!isDeepStrictEqual(parsed(again), info)) {
          faults.push(`is not read as it is printed:\n${text}`);
        }
        const objection = options.oracle && objectionOf(info, text, folder, options.oracle);
        if (objection !== null) faults.push(`${objection}:\n${text}`);
      } catch (error) {
        faults.push(`${messageOf(error)}:\n${text}`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { taken, refused: options.count - taken, faults };
}

if (import.meta.main) {
  const [count = '300', seed = String(Date.now() % 1_000_000)] = argv.slice(2);
  const oracle = nixOracle();
  console.log(`seed ${seed}, ${oracle ? 'Nix is the oracle' : 'no Nix here: without an oracle'}`);
  const options = { count: Number(count), seed: Number(seed), oracle };
  const { taken, refused, faults } = fuzzNarInfo(options);
  console.log(`${taken} taken, ${refused} refused, ${faults.length} faults`);
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) process.exitCode = 1;
}

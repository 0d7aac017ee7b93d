import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { isNicheError } from '../../../core/errors.ts';
import { maxDerivationDepth } from '../../../core/limits.ts';
import { parseDerivation } from '../../../core/nix/derivation.ts';
import type { Derivation, DerivationInput } from '../../../core/nix/derivation.ts';
import { computeCaPath, parseStorePath } from '../../../core/nix/store-path.ts';
import { corpus, corpusMissing } from '../../support/assert/corpus.ts';
import { storePaths } from '../../support/lab/nix-values.ts';
import { refuses } from '../../support/assert/refuses.ts';

const data = corpus();

function fixture(name: string): string {
  return readFileSync(new URL(`../../fixtures/derivation/${name}`, import.meta.url), 'utf8');
}

const bootstrap = fixture('0zhkga32apid60mm7nh92z2970im5837-bootstrap-tools.drv');

function quoted(text: string): string {
  const escaped = text.replace(/["\\]/g, '\\$&').replaceAll('\n', '\\n').replaceAll('\r', '\\r');
  return `"${escaped.replaceAll('\t', '\\t')}"`;
}

function listed(items: Iterable<string>): string {
  return `[${[...items].join(',')}]`;
}

function printInput(input: DerivationInput): string {
  const outputs = listed(input.outputs.map(quoted));
  if (input.dynamicOutputs.size === 0) {
    return outputs;
  }
  const dynamic = [...input.dynamicOutputs].map(
    ([name, of]) => `(${quoted(name)},${printInput(of)})`,
  );
  return `(${outputs},${listed(dynamic)})`;
}

/** Prints a derivation as Nix does, so that parsed and printed text can be compared. */
function print(drv: Derivation, head = 'Derive('): string {
  const outputs = [...drv.outputs].map(
    ([name, { path, hashAlgo, hash }]) =>
      `(${[name, path ?? '', hashAlgo, hash].map(quoted).join(',')})`,
  );
  const inputs = [...drv.inputDrvs].map(
    ([path, input]) => `(${quoted(path)},${printInput(input)})`,
  );
  const env = [...drv.env].map((pair) => `(${pair.map(quoted).join(',')})`);
  const parts = [
    listed(outputs),
    listed(inputs),
    listed(drv.inputSrcs.map(quoted)),
    quoted(drv.system),
    quoted(drv.builder),
    listed(drv.args.map(quoted)),
    listed(env),
  ];
  return `${head}${parts.join(',')})`;
}

const texts = fc.string({ unit: 'binary', maxLength: 20 });
const mapOf = <Value>(
  key: fc.Arbitrary<string>,
  value: fc.Arbitrary<Value>,
): fc.Arbitrary<Map<string, Value>> =>
  fc
    .uniqueArray(fc.tuple(key, value), { maxLength: 3, selector: ([name]) => name })
    .map((entries) => new Map(entries));

const { input: dynamicInputs } = fc.letrec<{ input: DerivationInput }>((tie) => ({
  input: fc.record(
    {
      outputs: fc.array(texts, { maxLength: 2 }),
      dynamicOutputs: fc.oneof(
        { maxDepth: 3 },
        fc.constant(new Map<string, DerivationInput>()),
        mapOf(texts, tie('input')),
      ),
    },
    { noNullPrototype: true },
  ),
}));
const plainInputs: fc.Arbitrary<DerivationInput> = fc
  .array(texts, { maxLength: 2 })
  .map((outputs) => ({ outputs, dynamicOutputs: new Map() }));

function derivations(inputs: fc.Arbitrary<DerivationInput>): fc.Arbitrary<Derivation> {
  return fc.record(
    {
      outputs: mapOf(
        texts,
        fc.record(
          { path: fc.option(storePaths), hashAlgo: texts, hash: texts },
          { noNullPrototype: true },
        ),
      ),
      inputDrvs: mapOf(storePaths, inputs),
      inputSrcs: fc.array(storePaths, { maxLength: 3 }),
      system: texts,
      builder: texts,
      args: fc.array(texts, { maxLength: 3 }),
      env: mapOf(texts, texts),
    },
    { noNullPrototype: true },
  );
}

test('parses every derivation that a test printer writes', () => {
  fc.assert(
    fc.property(derivations(plainInputs), (drv) => {
      assert.deepEqual(parseDerivation(print(drv)), drv);
    }),
  );
  fc.assert(
    fc.property(derivations(dynamicInputs), (drv) => {
      assert.deepEqual(parseDerivation(print(drv, 'DrvWithVersion("xp-dyn-drv",')), drv);
    }),
  );
});

test('parses a real derivation', () => {
  const drv = parseDerivation(bootstrap);
  assert.deepEqual(drv.outputs.get('out'), {
    path: '/nix/store/p4s4jf7aq6v6z9iazll1aiqwb34aqxq9-bootstrap-tools',
    hashAlgo: '',
    hash: '',
  });
  assert.deepEqual(
    [...drv.inputDrvs].map(([path, { outputs }]) => [path, outputs]),
    [
      ['/nix/store/b7irlwi2wjlx5aj1dghx4c8k3ax6m56q-busybox.drv', ['out']],
      ['/nix/store/bzq60ip2z5xgi7jk6jgdw8cngfiwjrcm-bootstrap-tools.tar.xz.drv', ['out']],
    ],
  );
  assert.equal(drv.inputSrcs.length, 1);
  assert.equal(drv.system, 'x86_64-linux');
  assert.equal(drv.args[1], '-e');
  assert.equal(drv.env.get('langCC'), '1');
  const nested = parseDerivation(fixture('292w8yzv5nn7nhdpxcs8b7vby2p27s09-nested-json.drv'));
  assert.equal(nested.env.get('json'), '{"hello":"moto\\n"}');
});

test('refuses a truncated derivation, and anything after the end', () => {
  const small = fixture('292w8yzv5nn7nhdpxcs8b7vby2p27s09-nested-json.drv');
  for (let end = 0; end < small.length; end++) {
    refuses('malformed-derivation', () => parseDerivation(small.slice(0, end)), String(end));
  }
  refuses('malformed-derivation', () => parseDerivation(`${small}\n`));
});

test('refuses text that Nix never writes', () => {
  const empty = '[],[],"","",[],[])';
  const out = '("out","","","")';
  parseDerivation(`Derive([${out}],${empty}`);
  for (const text of [
    `Derive([,${out}],${empty}`,
    `Derive([${out},],${empty}`,
    `Derive([${out}${out}],${empty}`,
    `Derive([${out},${out}],${empty}`,
    `Derive([("out","/nix/store/x","","")],${empty}`,
    `Derive([("out","","")],${empty}`,
    `Derive([ ${out}],${empty}`,
    `derive([${out}],${empty}`,
    `DrvWithVersion("xp-other",[${out}],${empty}`,
    `Derive([${out}],[("/nix/store/x.drv",["out"])],[],"","",[],[])`,
    `Derive([${out}],[("/nix/store/b7irlwi2wjlx5aj1dghx4c8k3ax6m56q-b.drv",(["out"],[]))],[],"","",[],[])`,
    `Derive([${out}],[],[""],"","",[],[])`,
  ]) {
    refuses('malformed-derivation', () => parseDerivation(text), text);
  }
  refuses('malformed-derivation', () => parseDerivation(bootstrap, '/gnu/store'));
});

test('limits the nesting of outputs of outputs', () => {
  const nested = (depth: number): string => {
    const input = `${'(["out"],[("out",'.repeat(depth)}["out"]${')])'.repeat(depth)}`;
    return `DrvWithVersion("xp-dyn-drv",[],[("/nix/store/b7irlwi2wjlx5aj1dghx4c8k3ax6m56q-b.drv",${input})],[],"","",[],[])`;
  };
  parseDerivation(nested(maxDerivationDepth));
  refuses('malformed-derivation', () => parseDerivation(nested(maxDerivationDepth + 1)));
  refuses('malformed-derivation', () => parseDerivation(nested(100_000)));
});

test('parses or refuses any changed character', () => {
  fc.assert(
    fc.property(
      fc.nat(bootstrap.length - 1),
      fc.constantFrom('', '"', '\\', ',', ')', ']', 'x'),
      (at, put) => {
        try {
          parseDerivation(bootstrap.slice(0, at) + put + bootstrap.slice(at + 1));
        } catch (error) {
          assert.ok(isNicheError(error, 'malformed-derivation'));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('the corpus: parses every derivation', { skip: data === null && corpusMissing }, () => {
  const entries = data!.entries('storepath/drv/');
  assert.ok(entries.length > 0);
  for (const { path } of entries) {
    // Latin-1 maps each byte to a character, so that the printed text can be compared.
    const bytes = data!.read(path);
    const drv = parseDerivation(bytes.toString('latin1'));
    assert.equal(print(drv), bytes.toString('latin1'), path);
    const digest = createHash('sha256').update(bytes).digest();
    const storePath = parseStorePath(path.replace('storepath/drv', '/nix/store'));
    const ca = { method: 'text', hash: { algorithm: 'sha256', digest } } as const;
    const references = [...drv.inputDrvs.keys(), ...drv.inputSrcs];
    assert.equal(computeCaPath(ca, storePath.name, references, false), storePath.path);
  }
});

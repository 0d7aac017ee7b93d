/**
 * Loads a function app as Azure's worker for Node does: provides `@azure/functions-core`, collects the
 * registered functions, and runs the invocations that arrive by IPC with the programming model.
 *
 * @see https://github.com/Azure/azure-functions-nodejs-worker
 */
import Module, { createRequire } from 'node:module';

interface Metadata {
  readonly name: string;
  readonly bindings: Readonly<
    Record<string, { readonly type: string; readonly direction: string }>
  >;
}

interface InvocationModel {
  getArguments(): Promise<{ context: unknown; inputs: unknown[] }>;
  invokeFunction(context: unknown, inputs: unknown[], callback: unknown): Promise<unknown>;
  getResponse(context: unknown, result: unknown): Promise<unknown>;
}

interface ProgrammingModel {
  readonly name: string;
  getInvocationModel(context: object): InvocationModel;
  getCapabilities(capabilities: object): Promise<object>;
}

export interface InvocationRequest {
  readonly invocationId: string;
  readonly name: string;
  /** Values in the format of the host's protocol: `{string}`, `{json}`, `{int}`. */
  readonly inputData: readonly { readonly name: string; readonly data: object }[];
  readonly triggerMetadata: Readonly<Record<string, object>>;
}

export type WorkerMessage =
  | { readonly kind: 'registered'; readonly functions: readonly Metadata[] }
  | {
      readonly kind: 'log';
      readonly level: string;
      readonly category: string;
      readonly message: string;
    }
  | { readonly kind: 'response'; readonly invocationId: string; readonly error: string | null };

const functions = new Map<string, { metadata: Metadata; callback: unknown }>();
let model: ProgrammingModel | undefined;

const send = (message: WorkerMessage): void => void process.send?.(message);

class Disposable {
  dispose(): void {
    // Apps of tests never unregister a function.
  }
}

const core = {
  version: '4.0.0',
  hostVersion: '4.1040.300',
  Disposable,
  getProgrammingModel: () => model,
  setProgrammingModel(chosen: ProgrammingModel) {
    model = chosen;
  },
  registerFunction(metadata: Metadata, callback: unknown) {
    functions.set(metadata.name, { metadata, callback });
    return new Disposable();
  },
  registerHook: () => new Disposable(),
  log(level: string, category: string, message: string) {
    send({ kind: 'log', level, category, message });
  },
};

const prototype = Module.prototype as unknown as { require(id: string): unknown };
// eslint-disable-next-line @typescript-eslint/unbound-method -- it is called with its module
const original = prototype.require;
prototype.require = function (this: unknown, id: string): unknown {
  return id === '@azure/functions-core' ? core : original.call(this, id);
};

async function invoke(request: InvocationRequest): Promise<void> {
  const { invocationId, name, inputData, triggerMetadata } = request;
  const known = functions.get(name);
  let error: string | null = null;
  try {
    if (!known || !model) throw new Error(`no function ${name} is registered`);
    const invocation = model.getInvocationModel({
      invocationId,
      metadata: known.metadata,
      request: { invocationId, inputData, triggerMetadata },
      log(level: string, category: string, message: string) {
        send({ kind: 'log', level, category, message });
      },
    });
    const { context, inputs } = await invocation.getArguments();
    const result = await invocation.invokeFunction(context, inputs, known.callback);
    await invocation.getResponse(context, result);
  } catch (thrown) {
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  send({ kind: 'response', invocationId, error });
}

process.on('message', (request: InvocationRequest) => void invoke(request));
process.on('disconnect', () => process.exit());
createRequire(import.meta.url)(process.argv[2] ?? '');
await model?.getCapabilities({});
send({ kind: 'registered', functions: [...functions.values()].map(({ metadata }) => metadata) });

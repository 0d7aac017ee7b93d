import type { Output } from '../context.ts';

/** Tells a person how far things are: one line that is redrawn, where the terminal is ours. */
export interface Progress {
  /**
   * Shows the state now, which is asked for only if it is time to show it again. Whoever reads a log
   * gets a line of it now and then.
   */
  state(text: () => string): void;
  /** Prints a line that stays. */
  line(text: string): void;
  /** Prints a line for whoever looks for a fault (`NICHE_DEBUG`), with the time. */
  detail(text: string): void;
  /** From now on the terminal is ours, so that the state may be redrawn in place. */
  takeTerminal(): void;
  /** Clears the live line. */
  end(): void;
}

/** Between two lines of state in a log, in milliseconds. */
const logIntervalMs = 5_000;
/** Between two redrawings, in milliseconds. */
const drawIntervalMs = 100;

export interface ProgressOptions {
  /** False while another program owns the terminal. */
  readonly hasTerminal: boolean;
  /** Whether details are printed. */
  readonly verbose: boolean;
}

export function createProgress(output: Output, options: ProgressOptions): Progress {
  const { hasTerminal, verbose } = options;
  let live = hasTerminal && output.isTty && !verbose;
  let drawn = '';
  let last = Date.now();

  const clear = (): void => {
    if (drawn !== '') output.write(`\r${' '.repeat(drawn.length)}\r`);
    drawn = '';
  };

  return {
    state(text) {
      const now = Date.now();
      if (now - last < (live ? drawIntervalMs : logIntervalMs)) return;
      last = now;
      if (!live) {
        output.write(`niche: ${text()}\n`);
        return;
      }
      clear();
      drawn = `niche: ${text()}`.slice(0, Math.max(0, output.columns - 1));
      output.write(drawn);
    },
    line(text) {
      clear();
      output.write(`niche: ${text}\n`);
    },
    detail(text) {
      if (verbose) output.write(`niche: ${new Date().toISOString().slice(11, 23)} ${text}\n`);
    },
    takeTerminal() {
      live = output.isTty && !verbose;
    },
    end: clear,
  };
}

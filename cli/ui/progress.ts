import { isDebugging } from '../process/context.ts';
import type { Context } from '../process/context.ts';

/** Shows a person how far a command is: one line that is redrawn, if niche owns the terminal. */
export interface Progress {
  /** Shows the state if it is time to: on a terminal in place, in a log as a line now and then. */
  state(text: () => string): void;
  /** Prints `niche: ` and the text on a line of its own. */
  line(text: string): void;
  /** Prints lines as they are. */
  lines(texts: readonly string[]): void;
  /** Prints a line of the debug log (`NICHE_DEBUG`), with the time. */
  detail(text: string): void;
  /** Lets the state be redrawn in place, once another program has left the terminal. */
  takeTerminal(): void;
  /** Clears the redrawn line. */
  end(): void;
}

/** Between two lines of state in a log. */
const logIntervalMs = 5_000;
/** Between two redraws on a terminal. */
const drawIntervalMs = 100;

/**
 * Returns the progress of a command, on its standard error.
 *
 * @param hasTerminal false while another program owns the terminal
 */
export function startProgress(context: Context, hasTerminal: boolean): Progress {
  const output = context.stderr;
  const verbose = isDebugging(context);
  let live = hasTerminal && output.isTty && !verbose;
  let drawn = '';
  let lastMs = Date.now();

  function clear(): void {
    if (drawn !== '') output.clearLine(drawn.length);
    drawn = '';
  }

  function print(texts: readonly string[]): void {
    clear();
    for (const text of texts) output.write(`${text}\n`);
  }

  return {
    state(text) {
      const nowMs = Date.now();
      if (nowMs - lastMs < (live ? drawIntervalMs : logIntervalMs)) return;
      lastMs = nowMs;
      if (!live) {
        print([`niche: ${text()}`]);
        return;
      }
      clear();
      drawn = `niche: ${text()}`.slice(0, Math.max(0, output.columns - 1));
      output.write(drawn);
    },
    line(text) {
      print([`niche: ${text}`]);
    },
    lines: print,
    detail(text) {
      if (verbose) output.write(`niche: ${new Date().toISOString().slice(11, 23)} ${text}\n`);
    },
    takeTerminal() {
      live = output.isTty && !verbose;
    },
    end: clear,
  };
}

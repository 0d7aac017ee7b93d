// Loaded into a process by --import: at its end it writes down the most memory that it has had.
import { readFileSync, writeFileSync } from 'node:fs';

const { NICHE_TEST_PEAK_FILE: file } = process.env;
if (file !== undefined) {
  process.on('exit', () => {
    const [, kibibytes] =
      /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    writeFileSync(file, String(Number(kibibytes) * 1024));
  });
}

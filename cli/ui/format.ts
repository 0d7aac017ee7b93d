const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** Formats `1536` as `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit] ?? ''}`;
}

/** Formats a size with its exact number, as `1.5 KiB (1536 bytes)`. */
export function formatExactBytes(bytes: number): string {
  return bytes < 1024 ? count(bytes, 'byte') : `${formatBytes(bytes)} (${bytes} bytes)`;
}

/** Formats a number with its noun, as `1 path` or `2 paths`. */
export function count(number: number, noun: string, plural = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : plural}`;
}

/** Formats milliseconds as `0.4 s`, `12 s` or `3 min 5 s`. */
export function formatDuration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** Formats an age in milliseconds roughly, as `12 s`, `3 min`, `5 h` or `2 days`. */
export function formatAge(ms: number): string {
  const minutes = ms / 60_000;
  if (minutes < 1) return `${Math.max(0, Math.round(ms / 1000))} s`;
  if (minutes < 60) return `${Math.floor(minutes)} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h`;
  return `${Math.floor(minutes / 60 / 24)} days`;
}

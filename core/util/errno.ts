/** Whether `error` is an error of the operating system with one of `names`, such as `ENOENT`. */
export function isErrno(error: unknown, ...names: string[]): boolean {
  return names.includes(errnoOf(error) ?? '');
}

/** Returns the name of an operating system's error, such as `ENOENT`; undefined for any other error. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}

/** Nix's number of the activity that builds one derivation (`actBuild` in logging.hh). */
const buildActivity = 105;

/** Follows the builds in one of Nix's JSON logs. */
export interface LogFollower {
  /** Reads one line. Returns the derivation if the line ends its build, successful or not. */
  readonly read: (line: string) => string | null;
  /** Returns the derivations whose builds have not ended. */
  readonly unfinished: () => readonly string[];
}

/**
 * Creates a follower for the format of `json-log-path`: one JSON object a line, with sorted keys. Most
 * lines are progress and output of builders, so only those that start or stop an activity are parsed.
 */
export function followLog(): LogFollower {
  const building = new Map<string, string>();
  return {
    read: (line) => {
      const kind = /^\{"action":"(start|stop)"/u.exec(line)?.[1];
      // Numbers above 2^53 are common here: they begin with the process id.
      const id = /"id":(\d+)/u.exec(line)?.[1];
      if (kind === undefined || id === undefined) return null;
      if (kind === 'start') {
        const drvPath = builtBy(line);
        if (drvPath !== null) building.set(id, drvPath);
        return null;
      }
      const ended = building.get(id) ?? null;
      building.delete(id);
      return ended;
    },
    unfinished: () => [...building.values()],
  };
}

/** Returns the derivation that the activity of `line` builds, if it builds one. */
function builtBy(line: string): string | null {
  let activity: { readonly type?: unknown; readonly fields?: unknown };
  try {
    activity = JSON.parse(line) as typeof activity;
  } catch {
    return null;
  }
  if (activity.type !== buildActivity || !Array.isArray(activity.fields)) return null;
  const [drvPath] = activity.fields as readonly unknown[];
  return typeof drvPath === 'string' ? drvPath : null;
}

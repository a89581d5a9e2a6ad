/** What one check has found. */
export interface Diagnosis {
  /** What was looked at. */
  readonly check: string;
  readonly state: "ok" | "warning" | "problem";
  readonly found: string;
  /** What to do about it. */
  readonly fix?: string;
}

export function ok(check: string, found: string): Diagnosis {
  return { check, state: "ok", found };
}

/** The node works, but something will be missed. */
export function warning(check: string, found: string, fix: string): Diagnosis {
  return { check, state: "warning", found, fix };
}

/** The node does not work, or will not. */
export function problem(check: string, found: string, fix: string): Diagnosis {
  return { check, state: "problem", found, fix };
}

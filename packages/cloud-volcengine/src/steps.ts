import type { JobLog } from "@cocoon-net/core";
import type { Requests } from "./api.ts";
import type { LimitsBook } from "./limits.ts";

/** Everything a step of an operation needs. */
export interface Steps {
  readonly api: Requests;
  readonly job: JobLog;
  readonly limits: LimitsBook;
  readonly progress: (message: string) => void;
}

import { followOwnKeys } from "./tasks/agents.ts";
import { writeLeases } from "./tasks/leases.ts";
import { loadLeases } from "./tasks/loading.ts";
import { liveThroughOutages } from "./tasks/outages.ts";
import { registerNodes } from "./tasks/registration.ts";
import { keepSessions } from "./tasks/sessions.ts";

/** Everything that a client process can be told to do. */
export interface Tasks {
  readonly followOwnKeys: typeof followOwnKeys;
  readonly keepSessions: typeof keepSessions;
  readonly liveThroughOutages: typeof liveThroughOutages;
  readonly loadLeases: typeof loadLeases;
  readonly registerNodes: typeof registerNodes;
  readonly writeLeases: typeof writeLeases;
}

export const tasks: Tasks = {
  followOwnKeys,
  keepSessions,
  liveThroughOutages,
  loadLeases,
  registerNodes,
  writeLeases,
};

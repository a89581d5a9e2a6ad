/** What concerns the machine itself. Loads nothing of the driver: for a daemon. */
export { type WatchAliasesOptions, watchAliases } from "./alias-watch.ts";
export { watchDeparture } from "./departure-watch.ts";
export {
  type GuestAgentFixes,
  guestAgentFixes,
  guestAgentSettings,
  guestAgentWarning,
  type LocalRoute,
} from "./guest-agent.ts";

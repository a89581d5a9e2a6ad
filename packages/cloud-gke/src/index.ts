export { type WatchAliasesOptions, watchAliases } from "./alias-watch.ts";
export { default, default as gkeDriver } from "./driver.ts";
export {
  type GuestAgentFixes,
  guestAgentFixes,
  guestAgentSettings,
  guestAgentWarning,
  type LocalRoute,
} from "./guest-agent.ts";

export { default, default as gkeDriver } from "./driver.ts";
export { type GuestAgentFixes, guestAgentFixes } from "./guest-agent.ts";

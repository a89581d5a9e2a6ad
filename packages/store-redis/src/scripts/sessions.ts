import { defineScript, type Script } from "./prelude.ts";

/**
 * Opens a session; the same id may be opened again when the answer was lost.
 *
 *   ARGV[3]  id
 *   ARGV[4]  TTL, ms
 *   result   {done}
 */
export const openSession: Script = defineScript(
  "open-session",
  `
redis.call('ZADD', SESSIONS, now + tonumber(ARGV[4]), ARGV[3])
reap()
return { 1 }
`,
  { whenFull: false },
);

/**
 * Starts a session's time anew. Past its deadline it is over, reaped or not.
 *
 *   ARGV[3]  id
 *   ARGV[4]  TTL, ms
 *   result   {done} or {gone}
 */
export const renewSession: Script = defineScript(
  "renew-session",
  `
local deadline = redis.call('ZSCORE', SESSIONS, ARGV[3])
local alive = deadline and tonumber(deadline) > now
if alive then redis.call('ZADD', SESSIONS, now + tonumber(ARGV[4]), ARGV[3]) end
reap()
return { alive and 1 or 2 }
`,
  { whenFull: true },
);

/**
 * Ends a session at once and removes its keys.
 *
 *   ARGV[3]  id
 *   result   {done}
 */
export const endSession: Script = defineScript(
  "end-session",
  `
redis.call('ZADD', SESSIONS, 'XX', 0, ARGV[3])
if not reap() then return { 0 } end
return { 1 }
`,
  { whenFull: true },
);

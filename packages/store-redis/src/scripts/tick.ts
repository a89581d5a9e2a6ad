import { defineScript, type Script } from "./prelude.ts";

/**
 * Reaps when nobody else calls, and tells when to do so again.
 *
 *   result   {done, era, revision, next}                   next: ms until the next session's deadline, -1 for none
 */
export const tick: Script = defineScript(
  "tick",
  `
if not reap() then return { 0 } end
local first = redis.call('ZRANGE', SESSIONS, 0, 0, 'WITHSCORES')
return { 1, era, revision, first[2] and math.max(0, tonumber(first[2]) - now) or -1 }
`,
  { whenFull: true },
);

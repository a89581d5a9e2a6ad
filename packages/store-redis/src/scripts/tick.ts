import { defineScript, type Script } from "./prelude.ts";

/**
 * Reaps when nobody else calls, tells when to do so again, and where history stands. Asked on the connection that
 * listens, its answer comes after every message of a change up to `revision`.
 *
 *   ARGV[3]  lengths, in bytes, of the prefixes that the caller watches, with commas
 *   result   {done, branch, revision, stamp, added, next}
 *                                                          added: 1 when a length was new, so that no message was sent for it until now
 *                                                          next: ms until the next session's deadline, -1 for none
 */
export const tick: Script = defineScript(
  "tick",
  `
if not reap() then return { 0 } end
local known, added = {}, 0
for length in string.gmatch(lengths, '%d+') do known[#known + 1], known['l' .. length] = tonumber(length), true end
for length in string.gmatch(ARGV[3], '%d+') do
  if not known['l' .. length] then
    known[#known + 1], known['l' .. length], added = tonumber(length), true, 1
  end
end
if added == 1 then
  table.sort(known)
  redis.call('HSET', STATE, 'lengths', table.concat(known, ','))
end
local first = redis.call('ZRANGE', SESSIONS, 0, 0, 'WITHSCORES')
return { 1, branch(), revision, revisionStamp, added, first[2] and math.max(0, tonumber(first[2]) - now) or -1 }
`,
  { whenFull: true },
);

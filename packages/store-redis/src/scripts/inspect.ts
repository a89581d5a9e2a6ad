import { defineScript, type Script } from "./prelude.ts";

/**
 * What the server that owns the keys says of itself.
 *
 *   ARGV[3…]  sections of INFO
 *   result    {done, info, types, layout}                  types: TYPE of each of KEYS; layout: see layout.ts, nil before 2
 */
export const inspect: Script = defineScript(
  "inspect",
  `
local types = {}
for n, key in ipairs(KEYS) do types[n] = redis.call('TYPE', key).ok end
local layout = types[4] == 'hash' and redis.call('HGET', STATE, 'layout')
return { 1, redis.call('INFO', unpack(ARGV, 3)), types, layout }
`,
  { whenFull: true },
);

/**
 * Which history this is. A caller that has seen a newer revision of the same era knows that the database was set
 * back: a new era begins then, for everybody.
 *
 *   ARGV[3]  the era that the caller knows, or empty
 *   ARGV[4]  the newest revision that it has seen in that era
 *   result   {done, era, revision, incarnation}
 */
export const incarnation: Script = defineScript(
  "incarnation",
  `
if era == ARGV[3] and revision < tonumber(ARGV[4]) then
  era = stamp
  redis.call('HSET', STATE, 'era', era)
end
return { 1, era, revision, incarnation() }
`,
  { whenFull: true },
);

import { defineScript, type Script } from "./prelude.ts";

/**
 * What the server that owns the keys says of itself.
 *
 *   ARGV[3…]  sections of INFO
 *   result    {done, info, types}                          types: TYPE of each of KEYS
 */
export const inspect: Script = defineScript(
  "inspect",
  `
local types = {}
for n, key in ipairs(KEYS) do types[n] = redis.call('TYPE', key).ok end
return { 1, redis.call('INFO', unpack(ARGV, 3)), types }
`,
  { whenFull: true },
);

/**
 * Which history this is. A caller that has seen a newer revision of the same era knows that the database was set
 * back: a new era begins then, for everybody.
 *
 *   ARGV[3]  the era that the caller knows, or empty
 *   ARGV[4]  the newest revision that it has seen in that era
 *   result   {done, era, revision, run, branched}          run: id of the server's process
 *                                                          branched: the history that this one branched from
 */
export const incarnation: Script = defineScript(
  "incarnation",
  `
if era == ARGV[3] and revision < tonumber(ARGV[4]) then
  era = stamp
  redis.call('HSET', STATE, 'era', era)
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
return { 1, era, revision, run, branched() }
`,
  { whenFull: true },
);

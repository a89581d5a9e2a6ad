import { defineScript, type Script } from "./prelude.ts";

/**
 * What the server that owns the keys says of itself. A script, because in a Redis Cluster a plain INFO goes to
 * any node.
 *
 *   ARGV[2…]  sections of INFO
 *   result    {done, era, info, types}                     types: TYPE of each of KEYS
 */
export const inspect: Script = defineScript(
  "inspect",
  `
local types = {}
for n, key in ipairs(KEYS) do types[n] = redis.call('TYPE', key).ok end
return { 1, era, redis.call('INFO', unpack(ARGV, 2)), types }
`,
  { whenFull: true },
);

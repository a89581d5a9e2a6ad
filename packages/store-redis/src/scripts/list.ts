import { defineScript, type Script } from "./prelude.ts";

/**
 * One page of the entries under a prefix, in byte order.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  the key to start after, or empty
 *   ARGV[5]  most entries; a page also ends once it holds 4 MiB
 *   result   {done, revision, stamp, more, members, values}
 *                                                          members: of the index, see layout.ts, with the value of each
 */
export const list: Script = defineScript(
  "list",
  String.raw`
if not reap() then return { 0 } end

local prefix, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local lower = after ~= '' and '(' .. after .. '\0\255' or prefix ~= '' and '[' .. prefix or '-'
local upper = prefix ~= '' and '(' .. prefix .. '\255' or '+'
-- Pieces grow, so that few values are read in vain where they are long.
local members, values, bytes, chunk = {}, {}, 0, 10
while true do
  local next = redis.call('ZRANGEBYLEX', INDEX, lower, upper, 'LIMIT', '0', chunk)
  if #next == 0 then break end
  local keys = {}
  for n, member in ipairs(next) do keys[n] = string.match(member, '^[^%z]+') end
  local found = redis.call('HMGET', DATA, unpack(keys))
  for n, member in ipairs(next) do
    local value = found[n]
    if value then
      if #members == limit or bytes >= 4194304 then return { 1, revision, revisionStamp, 1, members, values } end
      members[#members + 1], values[#values + 1] = member, value
      bytes = bytes + #member + #value
    end
  end
  if #next < chunk then break end
  lower, chunk = '(' .. next[#next], math.min(chunk * 2, 320)
end
return { 1, revision, revisionStamp, 0, members, values }
`,
  { whenFull: true },
);

import { defineScript, type Script } from "./prelude.ts";

/**
 * One page of the entries under a prefix, in byte order.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  the key to start after, or empty
 *   ARGV[5]  most entries; a page also ends once it holds 4 MiB
 *   result   {done, revision, stamp, more, entries}        entries: {key, value, created, modified} each
 */
export const list: Script = defineScript(
  "list",
  String.raw`
if not reap() then return { 0 } end

local prefix, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local lower = after ~= '' and '(' .. after .. '\0\255' or prefix ~= '' and '[' .. prefix or '-'
local upper = prefix ~= '' and '(' .. prefix .. '\255' or '+'
local entries, bytes, chunk = {}, 0, 200
while true do
  local members = redis.call('ZRANGEBYLEX', INDEX, lower, upper, 'LIMIT', 0, chunk)
  if #members == 0 then break end
  local keys = {}
  for n, member in ipairs(members) do keys[n] = string.match(member, '^[^%z]+') end
  local values = redis.call('HMGET', DATA, unpack(keys))
  for n, member in ipairs(members) do
    if values[n] then
      if #entries == limit or bytes >= 4194304 then return { 1, revision, revisionStamp, 1, entries } end
      local created, modified = string.match(string.sub(member, #keys[n] + 2), '^(%d+)%z(%d+)%z')
      entries[#entries + 1] = { keys[n], values[n], created, modified }
      bytes = bytes + #keys[n] + #values[n]
    end
  end
  if #members < chunk then break end
  lower = '(' .. members[#members]
end
return { 1, revision, revisionStamp, 0, entries }
`,
  { whenFull: true },
);

import { defineScript, type Script } from "./prelude.ts";

/**
 * One page of the entries under a prefix, in byte order.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  the key to start after, or empty
 *   ARGV[5]  most entries; a page also ends once it holds 4 MiB
 *   result   {done, revision, stamp, more, entries}        entries: keys and their fields in turn, see layout.ts, joined
 *                                                          by bytes 255: that many strings would cost both sides more
 */
export const list: Script = defineScript(
  "list",
  String.raw`
if not reap() then return { 0 } end

local prefix, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local lower = after ~= '' and '(' .. after or prefix ~= '' and '[' .. prefix or '-'
local upper = prefix ~= '' and '(' .. prefix .. '\255' or '+'
-- Pieces grow, so that few values are read in vain where they are long.
local parts, size, bytes, chunk = {}, 0, 0, 10
local function page(more)
  return { 1, revision, revisionStamp, more, table.concat(parts, '\255') }
end
while true do
  local next = redis.call('ZRANGEBYLEX', INDEX, lower, upper, 'LIMIT', '0', chunk)
  if #next == 0 then break end
  local found = redis.call('HMGET', DATA, unpack(next))
  for n, key in ipairs(next) do
    local field = found[n]
    -- One that was removed by hand is still in the index.
    if field then
      if size == limit or bytes >= 4194304 then return page(1) end
      size = size + 1
      parts[2 * size - 1], parts[2 * size] = key, field
      bytes = bytes + #key + #field
    end
  end
  if #next < chunk then break end
  lower, chunk = '(' .. next[#next], math.min(chunk * 2, 320)
end
return page(0)
`,
  { whenFull: true },
);

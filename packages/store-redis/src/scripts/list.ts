import { defineScript, type Script } from "./prelude.ts";

/**
 * One page of the entries under a prefix, in byte order.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  the key to start after, or empty
 *   ARGV[5]  most entries; a page also ends once it holds 4 MiB
 *   result   {done, revision, stamp, more, pieces}         pieces of the page: keys and their fields in turn, see layout.ts,
 *                                                          joined by bytes 255
 *
 * A reply of as many strings as there are keys, or one string of a whole page, would cost the server half as much again.
 */
export const list: Script = defineScript(
  "list",
  String.raw`
if not reap() then return { 0 } end

local prefix, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local lower = after ~= '' and '(' .. after or prefix ~= '' and '[' .. prefix or '-'
local upper = prefix ~= '' and '(' .. prefix .. '\255' or '+'
-- Pieces grow, so that few values are read in vain where they are long.
local pieces, size, bytes, chunk = {}, 0, 0, 10
local function page(more)
  return { 1, revision, revisionStamp, more, pieces }
end
while true do
  local next = redis.call('ZRANGEBYLEX', INDEX, lower, upper, 'LIMIT', '0', chunk)
  if #next == 0 then return page(0) end
  local found, parts, full = redis.call('HMGET', DATA, unpack(next)), {}, false
  for n, key in ipairs(next) do
    local field = found[n]
    -- One that was removed by hand is still in the index.
    if field then
      full = size == limit or bytes >= 4194304
      if full then break end
      size, bytes = size + 1, bytes + #key + #field
      parts[#parts + 1], parts[#parts + 2] = key, field
    end
  end
  if #parts > 0 then pieces[#pieces + 1] = table.concat(parts, '\255') end
  if full then return page(1) end
  if #next < chunk then return page(0) end
  lower, chunk = '(' .. next[#next], math.min(chunk * 2, 160)
end
`,
  { whenFull: true },
);

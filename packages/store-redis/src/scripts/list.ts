import { defineScript, type Script } from "./prelude.ts";

/**
 * One page of the entries under a prefix: whole blocks in byte order, of which more than was asked for may be in it, and
 * also keys that are not under the prefix.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  the key to start after, or empty
 *   ARGV[5]  how many entries are wanted; a page also ends once it holds 4 MiB
 *   ARGV[6…] blocks from before there that may hold keys from after there
 *   result   {done, revision, stamp, more, pieces}         pieces of the page: of each block its name, its rows and the
 *                                                          values of its keys, joined by bytes 255, and a byte 254
 *                                                          more: 1 when there are keys beyond all of these
 *
 * A reply of as many strings as there are blocks, or one string of a whole page, would cost the server more.
 */
export const list: Script = defineScript(
  "list",
  String.raw`
if not reap() then return { 0 } end

local prefix, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
-- The block of the key itself is among those around.
local lower = after ~= '' and '(' .. after .. '\0' or prefix ~= '' and '[' .. prefix or '-'
local upper = prefix ~= '' and '(' .. prefix .. '\255' or '+'
local pieces, parts, size, bytes = {}, {}, 0, 0

-- What the keys of the outermost block start with between whose keys others may stand that are still to come.
local outermost
local function take(name, rows, values)
  -- Something was removed by hand.
  if not rows or not values then return end
  if not outermost or sub(name, 1, #outermost) ~= outermost then outermost = stemOf(name) end
  for mask in gmatch(rows, '%d+ %d+ (%-?%d+)') do size = size + count(tonumber(mask)) end
  local at = #parts
  parts[at + 1], parts[at + 2], parts[at + 3] = name, '\255', rows
  parts[at + 4], parts[at + 5], parts[at + 6] = '\255', values, '\254'
  bytes = bytes + #name + #rows + #values
end

local function ends(name)
  if size < limit and bytes < 4194304 then return false end
  -- All that is in the page must come before all that is not.
  return not outermost or sub(name, 1, #outermost) ~= outermost or stemOf(name) == outermost
end

local function flush()
  if #parts > 0 then pieces[#pieces + 1], parts = concat(parts), {} end
end

local function fields(names)
  return redis.call('HMGET', BLOCKS, unpack(names)), redis.call('HMGET', DATA, unpack(names))
end

if #ARGV > 5 then
  local around = { unpack(ARGV, 6) }
  local rows, values = fields(around)
  for n, name in ipairs(around) do take(name, rows[n], values[n]) end
  size = 0
end
-- Pieces grow while they are short, so that few values are read in vain where they are long.
local chunk = math.min(limit + 1, 4)
while true do
  local next, before = redis.call('ZRANGEBYLEX', INDEX, lower, upper, 'LIMIT', '0', digits(chunk)), bytes
  if #next > 0 then
    local rows, values = fields(next)
    for n, name in ipairs(next) do
      if ends(name) then
        flush()
        return { 1, revision, revisionStamp, 1, pieces }
      end
      take(name, rows[n], values[n])
    end
  end
  flush()
  if #next < chunk then return { 1, revision, revisionStamp, 0, pieces } end
  lower = '(' .. next[#next]
  if bytes - before < 32768 then chunk = math.min(chunk * 2, 128) end
end
`,
  { whenFull: true },
);

import { defineScript, type Script } from "./prelude.ts";

/**
 * One page of the entries under a prefix: whole blocks in byte order, of which more than was asked for may be in it, and
 * also keys that are not under the prefix.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  the key to start after, or empty
 *   ARGV[5]  how many entries are wanted; a page also ends once it holds 4 MiB
 *   ARGV[6…] blocks from before there that may hold keys from after there
 *   result   {done, revision, stamp, more, pieces}         pieces of the page, joined by bytes 255: of each block its name, its
 *                                                          rows, and the value of each of its keys, or a byte 254 for one that
 *                                                          was removed by hand
 *                                                          more: 1 when there are keys beyond all of these
 *
 * A reply of as many strings as there are keys, or one string of a whole page, would cost the server half as much again.
 */
export const list: Script = defineScript(
  "list",
  String.raw`
if not reap() then return { 0 } end

local prefix, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
-- The block of the key itself is among those around.
local lower = after ~= '' and '(' .. after .. '\0' or prefix ~= '' and '[' .. prefix or '-'
local upper = prefix ~= '' and '(' .. prefix .. '\255' or '+'
local pieces, size, bytes = {}, 0, 0
-- Pieces grow, so that few values are read in vain where they are long.
local chunk, names, texts, counts, keys, count = 10, {}, {}, {}, {}, 0

local function flush()
  if count == 0 then return end
  local values, parts, at, last = redis.call('HMGET', DATA, unpack(keys)), {}, 0, 0
  for n, name in ipairs(names) do
    parts[last + 1], parts[last + 2] = name, texts[n]
    last = last + 2
    for _ = 1, counts[n] do
      at, last = at + 1, last + 1
      local value = values[at]
      if value then size = size + 1 end
      parts[last] = value or '\254'
    end
  end
  local piece = table.concat(parts, '\255')
  pieces[#pieces + 1], bytes = piece, bytes + #piece
  chunk, names, texts, counts, keys, count = math.min(chunk * 2, 160), {}, {}, {}, {}, 0
end

-- What the keys of the outermost block start with between whose keys others may stand that are still to come.
local open
local function take(name, text)
  local stem = stemOf(name)
  if not open or string.sub(name, 1, #open) ~= open then open = stem end
  local mask = 0
  for _, row in ipairs(rowsOf(text)) do mask = bit.bor(mask, row[3]) end
  local before, n = count, #names + 1
  count = appendKeys(keys, count, name, mask)
  names[n], texts[n], counts[n] = name, text, count - before
  if count >= chunk then flush() end
end

local function ends(name)
  if size + count < limit and bytes < 4194304 then return false end
  -- All that is in the page must come before all that is not.
  if open and string.sub(name, 1, #open) == open and stemOf(name) ~= open then return false end
  flush()
  return size >= limit or bytes >= 4194304
end

local function rowTexts(of)
  return redis.call('HMGET', BLOCKS, unpack(of))
end

if #ARGV > 5 then
  local around = { unpack(ARGV, 6) }
  for n, text in ipairs(rowTexts(around)) do
    if text then take(around[n], text) end
  end
  flush()
  size = 0
end
while true do
  local next = redis.call('ZRANGEBYLEX', INDEX, lower, upper, 'LIMIT', '0', math.min(limit + 1, 160))
  if #next > 0 then
    for n, text in ipairs(rowTexts(next)) do
      if ends(next[n]) then return { 1, revision, revisionStamp, 1, pieces } end
      if text then take(next[n], text) end
    end
  end
  if #next < math.min(limit + 1, 160) then
    flush()
    return { 1, revision, revisionStamp, 0, pieces }
  end
  lower = '(' .. next[#next]
end
`,
  { whenFull: true },
);

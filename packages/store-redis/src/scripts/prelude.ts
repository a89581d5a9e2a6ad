import { createHash } from "node:crypto";
import { layoutVersion } from "../layout.ts";

export interface Script {
  readonly name: string;
  readonly text: string;
  readonly sha1: string;
}

/** First element of every script's answer. */
export const status: {
  /** Nothing was done but reaping, and there is more to reap: call again. */
  readonly again: 0;
  readonly done: 1;
  /** What the call relies on is gone; each script says what. */
  readonly gone: 2;
} = { again: 0, done: 1, gone: 2 };

/**
 * What all scripts share.
 *
 *   KEYS     the seven of layout.ts
 *   ARGV[1]  about how many changes the stream keeps
 *   ARGV[2]  the stem of the watches' channels, see layout.ts
 *
 * The clock is the server's. `reap` must have returned true before a script reads keys: it removes what
 * belongs to sessions past their deadline, a bounded number per call, so that no script runs long and none
 * ever sees a key whose session is over.
 */
const prelude = String.raw`
local DATA, BLOCKS, INDEX, STATE, CHANGES, SESSIONS, TIED = unpack(KEYS)
local HISTORY, STEM = tonumber(ARGV[1]), ARGV[2]
local band, bor, bnot, lshift, rshift = bit.band, bit.bor, bit.bnot, bit.lshift, bit.rshift
local find, sub, gmatch, concat = string.find, string.sub, string.gmatch, table.concat
-- Numbers that are passed to commands are written as text: Lua's own way to turn them into it is slow.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp = time[1] .. '.' .. time[2]

local state = redis.call('HMGET', STATE, 'era', 'revision', 'stamp', 'lengths', 'unmarked')
local era, revision, revisionStamp, lengths = state[1], tonumber(state[2] or 0), state[3] or '', state[4] or ''
local unmarked = tonumber(state[5] or 0)
if not era then
  -- An empty or emptied database starts a new era.
  era = stamp
  redis.call('HSET', STATE, 'era', era, 'layout', '${layoutVersion}')
end

local function digits(number)
  return string.format('%d', number)
end

-- How many keys a mask has.
local function count(mask)
  mask = mask - band(rshift(mask, 1), 0x55555555)
  mask = band(mask, 0x33333333) + band(rshift(mask, 2), 0x33333333)
  mask = band(mask + rshift(mask, 4), 0x0f0f0f0f)
  return band(mask + rshift(mask, 8) + rshift(mask, 16) + rshift(mask, 24), 0x3f)
end

-- Rows of the blocks that this script is about, as text, by their names; empty where there are none.
local blocks = {}
local function load(names)
  local missing = {}
  for _, name in ipairs(names) do
    if not blocks[name] then missing[#missing + 1], blocks[name] = name, '' end
  end
  if #missing == 0 then return end
  for n, rows in ipairs(redis.call('HMGET', BLOCKS, unpack(missing))) do blocks[missing[n]] = rows or '' end
end

local function textOfRow(row)
  return row[1] .. ' ' .. row[2] .. ' ' .. digits(row[3]) .. (row[4] == '' and '' or ' ' .. row[4])
end

-- Takes keys out of a block's rows. Answers the rows that are left, as text; those that were taken, as { created,
-- modified, mask, session or '' } each; and what keys there were.
local function takeRows(rows, mask)
  local left, taken, all = {}, {}, 0
  for row, keys in gmatch(rows, '(%d+ %d+ (%-?%d+)[^,]*)') do
    keys = tonumber(keys)
    all = bor(all, keys)
    local hit = band(keys, mask)
    if hit == 0 then
      left[#left + 1] = row
    else
      local created, modified, session = string.match(row, '^(%d+) (%d+) %-?%d+ ?(.*)')
      taken[#taken + 1] = { created, modified, hit, session }
      if hit ~= keys then left[#left + 1] = textOfRow({ created, modified, band(keys, bnot(hit)), session }) end
    end
  end
  return left, taken, all
end

-- Adds keys to rows.
local function addRow(rows, created, modified, mask, session)
  if mask == 0 then return end
  for _, row in ipairs(rows) do
    if row[1] == created and row[2] == modified and row[4] == session then
      row[3] = bor(row[3], mask)
      return
    end
  end
  rows[#rows + 1] = { created, modified, mask, session }
end

-- The value of a key among those that are joined.
local function valueIn(joined, mask, key)
  local first = 1
  for _ = 1, count(band(mask, key - 1)) do first = find(joined, '\255', first, true) + 1 end
  return sub(joined, first, (find(joined, '\255', first, true) or 0) - 1)
end

-- Joins the values of those of a block's old keys that are kept with those of the keys that are put, in the order of the
-- keys. What stands between is copied in one piece: Redis' Lua reads each string that it makes to its end, for a hash.
local function merge(old, all, kept, new, put)
  local pieces, at, from, passed = {}, 1, 1, 0
  local busy = bor(put, band(all, bnot(kept)))
  while busy ~= 0 do
    local key, start = band(busy, -busy), at
    busy = band(busy, busy - 1)
    local before = count(band(all, key - 1))
    for _ = passed + 1, before do at = (find(old, '\255', at, true) or #old + 1) + 1 end
    if passed < before then pieces[#pieces + 1] = sub(old, start, at - 2) end
    passed = before
    if band(all, key) ~= 0 then at, passed = (find(old, '\255', at, true) or #old + 1) + 1, passed + 1 end
    if band(put, key) ~= 0 then
      local stop = find(new, '\255', from, true) or #new + 1
      pieces[#pieces + 1], from = sub(new, from, stop - 1), stop + 1
    end
  end
  if passed < count(all) then pieces[#pieces + 1] = sub(old, at) end
  return concat(pieces, '\255')
end

-- What stands before the last octet in the keys of a block that holds several.
local function stemOf(name)
  return string.byte(name, -1) == 0 and string.match(name, '^(.*%.)%d+%z$') or nil
end

-- The keys of a block that a mask has. runs: the 32 octets that follow an octet in byte order, as text.
local runs = {}
local function keysOf(name, mask)
  local stem, first = string.match(name, '^(.*%.)(%d+)%z$')
  if not stem then return { name } end
  local run = runs[first]
  if not run then
    run = {}
    local octet = tonumber(first)
    for n = 0, 31 do
      run[n] = digits(octet)
      if octet > 0 and octet * 10 <= 255 then
        octet = octet * 10
      else
        while octet % 10 == 9 or octet >= 255 do octet = math.floor(octet / 10) end
        octet = octet + 1
      end
    end
    runs[first] = run
  end
  local keys = {}
  for n = 0, 31 do
    if band(mask, lshift(1, n)) ~= 0 then keys[#keys + 1] = stem .. run[n] end
  end
  return keys
end

-- What two histories differ in, whatever their revisions: the era, and the history that this server's branched from when
-- it was last promoted.
local function branch()
  return era .. '/' .. (string.match(redis.call('INFO', 'replication'), 'master_replid2:(%x+)') or '')
end

-- Changes when the server may have lost writes: also with each of its processes.
local function incarnation()
  return branch() .. '/' .. string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- Tells the watches that changes of keys concern, once each: branch, revision, stamp, whether a key was tied to a
-- session. It asks for prefixes of a length that somebody has watched, and tells those that somebody listens to now, so
-- that a change costs one call, and one more for each watched prefix of its keys, whatever the number of watches.
-- written: block and mask in turn.
local function announce(id, tied, written)
  if lengths == '' then return end
  local channels, asked = {}, {}
  local function ask(key, length)
    local prefix = string.sub(key, 1, length)
    if asked[prefix] then return end
    asked[prefix] = true
    channels[#channels + 1] = STEM .. prefix
  end
  for text in string.gmatch(lengths, '%d+') do
    local length = tonumber(text)
    for n = 1, #written, 2 do
      local block = written[n]
      local stem = stemOf(block)
      if length <= #(stem or block) then
        ask(block, length)
      elseif stem then
        for _, key in ipairs(keysOf(block, written[n + 1])) do
          if length <= #key then ask(key, length) end
        end
      end
    end
  end
  local message
  for first = 1, #channels, 1000 do
    local last = math.min(first + 999, #channels)
    local listeners = redis.call('PUBSUB', 'SHARDNUMSUB', unpack(channels, first, last))
    for n = 1, #listeners, 2 do
      if listeners[n + 1] > 0 then
        message = message or branch() .. ' ' .. id .. ' ' .. stamp .. ' ' .. tied
        redis.call('SPUBLISH', listeners[n], message)
      end
    end
  end
end

-- Counts changes before they are applied, and cuts the stream, whose entries are of very different size, after enough
-- of them. Marks are revisions, newest first, each with the number of changes since the one before it.
local function mark(id, changes)
  unmarked = unmarked + changes
  if unmarked * 8 < HISTORY then return end
  local marks, kept, sum = id .. ':' .. digits(unmarked) .. ' ' .. (redis.call('HGET', STATE, 'marks') or ''), '', 0
  for text, at, count in string.gmatch(marks, '((%d+):(%d+) )') do
    if sum >= HISTORY then
      redis.call('XTRIM', CHANGES, 'MINID', '~', digits(at + 1), 'LIMIT', '0')
      break
    end
    kept, sum = kept .. text, sum + count
  end
  redis.call('HSET', STATE, 'marks', kept)
  unmarked = 0
end

-- Ties of a block to sessions that have come, or gone, with its new rows.
local tiesIn = '%d+ %d+ %-?%d+ ([^,]+)'
local function compareTies(name, before, after, come, gone)
  local had, has = {}, {}
  for session in gmatch(before, tiesIn) do had[session] = true end
  for session in gmatch(after, tiesIn) do
    if not had[session] and not has[session] then
      come[#come + 1], come[#come + 2] = '0', session .. '\0' .. name
    end
    has[session] = true
  end
  for session in pairs(had) do
    if not has[session] then gone[#gone + 1] = session .. '\0' .. name end
  end
end

-- Puts and deletes keys, whose blocks are loaded, as one revision, and answers whether it made any.
--   put      of each block: its name, then in turn what keys are put and the session that they hang on, or ''
--   values   where in ARGV their values stand, those of each block joined by bytes 255: behind this
--   deletes  block and mask in turn
-- Messages and the stream come first: they alone can be refused, and then nothing has been applied. Values are passed on
-- as they came unless a block has others that stay, as it is the bytes that cost.
local function commit(put, values, deletes)
  local id = digits(revision + 1)
  -- By name what a block was and is to be; in parts what the stream gets of each put.
  local changes, touched, parts, gone, written = {}, {}, {}, {}, {}
  -- tied, loose: a session has got a key, or lost one.
  local changed, made, tied, loose = 0, false, 0, false
  local function change(name, mask, taken, all, rows)
    local one = changes[name]
    if not one then
      one = { before = blocks[name], all = all, kept = all, put = 0 }
      changes[name], touched[#touched + 1] = one, name
    end
    one.kept = band(one.kept, bnot(mask))
    blocks[name] = rows
    for _, row in ipairs(taken) do loose = loose or row[4] ~= '' end
    changed = changed + count(mask)
    written[#written + 1], written[#written + 2] = name, mask
    return one
  end
  for n, entry in ipairs(put) do
    local name, mask = entry[1], 0
    for at = 2, #entry, 2 do mask = bor(mask, entry[at]) end
    local left, taken, all = takeRows(blocks[name], mask)
    local rows, fresh = {}, band(mask, bnot(all))
    for at = 2, #entry, 2 do
      local keys, session = entry[at], entry[at + 1]
      if session ~= '' then tied = 1 end
      for _, row in ipairs(taken) do addRow(rows, row[1], id, band(keys, row[3]), session) end
      addRow(rows, id, id, band(keys, fresh), session)
    end
    made = made or fresh ~= 0
    for at, row in ipairs(rows) do rows[at] = textOfRow(row) end
    local text = concat(rows, ',')
    parts[#parts + 1], parts[#parts + 2] = name .. '\255' .. text, ARGV[values + n]
    if #left > 0 then text = concat(left, ',') .. ',' .. text end
    local one = change(name, mask, taken, all, text)
    one.put, one.values = mask, ARGV[values + n]
  end
  for n = 1, #deletes, 2 do
    local name = deletes[n]
    local left, taken, all = takeRows(blocks[name], deletes[n + 1])
    if #taken > 0 then
      local mask = band(deletes[n + 1], all)
      gone[#gone + 1], gone[#gone + 2] = name, digits(mask)
      change(name, mask, taken, all, concat(left, ','))
    end
  end
  if #touched == 0 then return false end
  announce(id, tied, written)
  revision, revisionStamp = revision + 1, stamp
  mark(id, changed)
  redis.call('XADD', CHANGES, id .. '-0', 'stamp', stamp, 'delete', concat(gone, '\255'), unpack(parts))
  redis.call('HSET', STATE, 'revision', id, 'stamp', stamp, 'unmarked', digits(unmarked))
  -- Blocks that have keys which stay: they need their values from before.
  local mixed = {}
  for _, name in ipairs(touched) do
    if changes[name].kept ~= 0 then mixed[#mixed + 1] = name end
  end
  if #mixed > 0 then
    for n, old in ipairs(redis.call('HMGET', DATA, unpack(mixed))) do
      local name = mixed[n]
      local one = changes[name]
      if old then
        one.values = merge(old, one.all, one.kept, one.values, one.put)
      else
        -- Removed by hand.
        blocks[name] = concat(takeRows(blocks[name], one.kept), ',')
      end
    end
  end
  local rows, texts, new, empty, come, untied = {}, {}, {}, {}, {}, {}
  for _, name in ipairs(touched) do
    local one, text = changes[name], blocks[name]
    if text == '' then
      empty[#empty + 1] = name
    else
      rows[#rows + 1], rows[#rows + 2] = name, text
      texts[#texts + 1], texts[#texts + 2] = name, one.values
      if one.before == '' then new[#new + 1], new[#new + 2] = '0', name end
    end
    if loose or tied == 1 then compareTies(name, one.before, text, come, untied) end
  end
  if #rows > 0 then
    redis.call('HSET', BLOCKS, unpack(rows))
    redis.call('HSET', DATA, unpack(texts))
  end
  if #new > 0 then redis.call('ZADD', INDEX, unpack(new)) end
  if #empty > 0 then
    redis.call('HDEL', BLOCKS, unpack(empty))
    redis.call('HDEL', DATA, unpack(empty))
    redis.call('ZREM', INDEX, unpack(empty))
  end
  if #untied > 0 then redis.call('ZREM', TIED, unpack(untied)) end
  if #come > 0 then redis.call('ZADD', TIED, unpack(come)) end
  return made
end

-- Removes the keys of expired sessions, then the sessions. True when none is left.
local function reap()
  local budget, over, ties = 256, {}, {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', SESSIONS, '-inf', digits(now), 'LIMIT', '0', '256')) do
    if budget <= 0 then break end
    local some = redis.call('ZRANGEBYLEX', TIED, '[' .. id .. '\0', '(' .. id .. '\0\255', 'LIMIT', 0, budget)
    for _, tie in ipairs(some) do ties[#ties + 1] = tie end
    if #some < budget then over[#over + 1] = id end
    budget = budget - #some - 1
  end
  if #ties > 0 then
    local names, deletes = {}, {}
    for n, tie in ipairs(ties) do names[n] = sub(tie, find(tie, '\0', 1, true) + 1) end
    load(names)
    for n, name in ipairs(names) do
      for mask, session in gmatch(blocks[name], '%d+ %d+ (%-?%d+) ([^,]+)') do
        if session .. '\0' .. name == ties[n] then
          deletes[#deletes + 1], deletes[#deletes + 2] = name, tonumber(mask)
        end
      end
    end
    commit({}, 0, deletes)
  end
  if #over > 0 then redis.call('ZREM', SESSIONS, unpack(over)) end
  return budget > 0
end
`;

/**
 * One atomic operation. The `#!lua` line makes Redis 7 check before it starts, not half-way, that the server
 * may be written: on a replica, or on a primary that has lost its replicas under min-replicas-to-write, a
 * read is refused rather than answered from what may be stale. `whenFull` lets it run beyond maxmemory:
 * reads, deletes and keep-alives must still work then.
 */
export function defineScript(name: string, body: string, options: { whenFull: boolean }): Script {
  const text = `#!lua${options.whenFull ? " flags=allow-oom" : ""}${prelude}${body}`;
  return { name, text, sha1: createHash("sha1").update(text).digest("hex") };
}

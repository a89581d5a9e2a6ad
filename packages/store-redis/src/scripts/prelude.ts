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

-- Rows of a block, { created, modified, mask, session or '', text } each, without the text once they are others.
local function rowsOf(text)
  local rows = {}
  for row, created, modified, mask, session in string.gmatch(text or '', '((%d+) (%d+) (%-?%d+) ?([^,]*))') do
    rows[#rows + 1] = { created, modified, tonumber(mask), session, row }
  end
  return rows
end

-- The blocks that this script is about, by their names: as text, or false, until their rows are asked for.
local blocks = {}
local function load(names)
  if #names == 0 then return end
  for n, text in ipairs(redis.call('HMGET', BLOCKS, unpack(names))) do blocks[names[n]] = text end
end

local function rowsIn(block)
  local rows = blocks[block]
  if type(rows) ~= 'table' then
    rows = rowsOf(rows)
    blocks[block] = rows
  end
  return rows
end

-- The row that a key is in, by its block and its bit there.
local function rowOf(block, mask)
  for _, row in ipairs(rowsIn(block)) do
    if bit.band(row[3], mask) ~= 0 then return row end
  end
end

-- What stands before the last octet in the keys of a block that holds several.
local function stemOf(block)
  return string.match(block, '^(.*%.)%d+%z$')
end

-- Appends the keys of a block that a mask has, in byte order, to a list of so many, and answers how many they are then; to
-- bits, if given, what each of them is in the mask. runs: the 32 octets that follow an octet in byte order, as text.
local runs, ones = {}, {}
local function appendKeys(keys, count, block, mask, bits)
  local stem, first = string.match(block, '^(.*%.)(%d+)%z$')
  if not stem then
    keys[count + 1] = block
    if bits then bits[count + 1] = mask end
    return count + 1
  end
  local run = runs[first]
  if not run then
    run = {}
    local octet = tonumber(first)
    for n = 1, 32 do
      run[n], ones[n] = string.format('%d', octet), bit.lshift(1, n - 1)
      if octet > 0 and octet * 10 <= 255 then
        octet = octet * 10
      else
        while octet % 10 == 9 or octet >= 255 do octet = math.floor(octet / 10) end
        octet = octet + 1
      end
    end
    runs[first] = run
  end
  local band = bit.band
  for n = 1, 32 do
    if band(mask, ones[n]) ~= 0 then
      count = count + 1
      keys[count] = stem .. run[n]
      if bits then bits[count] = ones[n] end
    end
  end
  return count
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
        local keys = {}
        for at = 1, appendKeys(keys, 0, block, written[n + 1]) do
          if length <= #keys[at] then ask(keys[at], length) end
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

-- Adds keys of a block to its rows.
local function addRow(rows, created, modified, mask, session)
  for _, row in ipairs(rows) do
    if row[1] == created and row[2] == modified and row[4] == session then
      row[3], row[5] = bit.bor(row[3], mask), nil
      return
    end
  end
  rows[#rows + 1] = { created, modified, mask, session }
end

-- Takes keys out of a block's rows. Answers the rows that are left, and those that were taken.
local function takeRows(rows, mask)
  local left, taken = {}, {}
  for _, row in ipairs(rows) do
    local hit = bit.band(row[3], mask)
    if hit == 0 then
      left[#left + 1] = row
    else
      if hit ~= row[3] then left[#left + 1] = { row[1], row[2], bit.bxor(row[3], hit), row[4] } end
      taken[#taken + 1] = { row[1], row[2], hit, row[4] }
    end
  end
  return left, taken
end

-- Ties of a block to sessions that have come, or gone, with its new rows.
local function compareTies(block, before, after, come, gone)
  local had, has = {}, {}
  for _, row in ipairs(before) do had[row[4]] = true end
  for _, row in ipairs(after) do
    has[row[4]] = true
    if row[4] ~= '' and not had[row[4]] then
      come[#come + 1] = '0'
      come[#come + 1] = row[4] .. '\0' .. block
    end
  end
  for session in pairs(had) do
    if session ~= '' and not has[session] then gone[#gone + 1] = session .. '\0' .. block end
  end
end

-- Puts and deletes keys, whose blocks are loaded, as one revision, and answers whether it made any.
--   packed, sets  keys and values in turn: as MessagePack, and as a table
--   put           where they are: block, mask, session or '' in turn
--   deletes       key, block, bit in turn
-- Messages and the stream come first: they alone can be refused, and then nothing has been applied. Nothing is done for
-- each key of a put here, as that is what costs.
local function commit(packed, sets, put, deletes)
  local id = digits(revision + 1)
  local before, touched, written = {}, {}, {}
  -- tied, loose: a session has got a key, or lost one.
  local kept, gone, made, tied, loose = {}, {}, false, 0, false
  local function touch(block, mask)
    local rows = rowsIn(block)
    if not before[block] then
      before[block] = rows
      touched[#touched + 1] = block
    end
    written[#written + 1], written[#written + 2] = block, mask
    local left, taken = takeRows(rows, mask)
    for _, row in ipairs(taken) do loose = loose or row[4] ~= '' end
    return left, taken
  end
  for n = 1, #put, 3 do
    local block, mask, session = put[n], put[n + 1], put[n + 2]
    local rows, taken = touch(block, mask)
    local fresh = mask
    for _, row in ipairs(taken) do
      fresh = bit.bxor(fresh, row[3])
      kept[#kept + 1], kept[#kept + 2], kept[#kept + 3] = block, row[1], digits(row[3])
      addRow(rows, row[1], id, row[3], session)
    end
    if fresh ~= 0 then
      made = true
      addRow(rows, id, id, fresh, session)
    end
    if session ~= '' then tied = 1 end
    blocks[block] = rows
  end
  for n = 1, #deletes, 3 do
    local key, block, mask = deletes[n], deletes[n + 1], deletes[n + 2]
    if rowOf(block, mask) then
      gone[#gone + 1] = key
      blocks[block] = touch(block, mask)
    end
  end
  if #touched == 0 then return false end
  announce(id, tied, written)
  revision, revisionStamp = revision + 1, stamp
  -- No text has the byte 255 in UTF-8.
  mark(id, #sets / 2 + #gone)
  redis.call('XADD', CHANGES, id .. '-0', 'stamp', stamp, 'put', packed, 'kept', table.concat(kept, '\255'),
    'delete', table.concat(gone, '\255'))
  redis.call('HSET', STATE, 'revision', id, 'stamp', stamp, 'unmarked', digits(unmarked))
  if #sets > 0 then redis.call('HSET', DATA, unpack(sets)) end
  if #gone > 0 then redis.call('HDEL', DATA, unpack(gone)) end
  local texts, new, empty, come, untied = {}, {}, {}, {}, {}
  for _, block in ipairs(touched) do
    local rows, text = blocks[block], {}
    for n, row in ipairs(rows) do
      text[n] = row[5] or row[1] .. ' ' .. row[2] .. ' ' .. digits(row[3]) .. (row[4] == '' and '' or ' ' .. row[4])
    end
    if #rows == 0 then
      empty[#empty + 1] = block
    else
      texts[#texts + 1], texts[#texts + 2] = block, table.concat(text, ',')
      if #before[block] == 0 then new[#new + 1], new[#new + 2] = '0', block end
    end
    if loose or tied == 1 then compareTies(block, before[block], rows, come, untied) end
  end
  if #texts > 0 then redis.call('HSET', BLOCKS, unpack(texts)) end
  if #new > 0 then redis.call('ZADD', INDEX, unpack(new)) end
  if #empty > 0 then
    redis.call('HDEL', BLOCKS, unpack(empty))
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
    for _, tie in ipairs(some) do ties[#ties + 1] = { session = id, block = string.sub(tie, #id + 2) } end
    if #some < budget then over[#over + 1] = id end
    budget = budget - #some - 1
  end
  if #ties > 0 then
    local names, deletes = {}, {}
    for n, tie in ipairs(ties) do names[n] = tie.block end
    load(names)
    for _, tie in ipairs(ties) do
      for _, row in ipairs(rowsIn(tie.block)) do
        if row[4] == tie.session then
          local keys, bits = {}, {}
          for n = 1, appendKeys(keys, 0, tie.block, row[3], bits) do
            local at = #deletes
            deletes[at + 1], deletes[at + 2], deletes[at + 3] = keys[n], tie.block, bits[n]
          end
        end
      end
    end
    commit('', {}, {}, deletes)
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

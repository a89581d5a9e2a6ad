import { createHash } from "node:crypto";

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
 *   KEYS     the six of layout.ts
 *   ARGV[1]  about how many changes the stream keeps
 *   ARGV[2]  the stem of the watches' channels, see layout.ts
 *
 * The clock is the server's. `reap` must have returned true before a script reads keys: it removes what
 * belongs to sessions past their deadline, a bounded number per call, so that no script runs long and none
 * ever sees a key whose session is over.
 */
const prelude = String.raw`
local DATA, INDEX, STATE, CHANGES, SESSIONS, TIED = unpack(KEYS)
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
  redis.call('HSET', STATE, 'era', era)
end

local function digits(number)
  return string.format('%d', number)
end

-- createRevision, session or '', modRevision and the place of the value in a field of DATA.
local function parse(field)
  local created, modified, session, at = string.match(field, '^(%d+) (%d+)@?(%S*) ()')
  -- Written by hand: as if it had been there from the start.
  if not created then return '1', nil, '1', 1 end
  return created, session, modified, at
end

-- The history that this server's branched from when it was last promoted.
local function branched()
  return string.match(redis.call('INFO', 'replication'), 'master_replid2:(%x+)') or ''
end

-- What two histories differ in, whatever their revisions.
local function branch()
  return era .. '/' .. branched()
end

-- Tells the watches that changes of keys concern, once each: branch, revision, stamp, whether a key was tied to a
-- session. It asks for prefixes of a length that somebody has watched, and tells those that somebody listens to now, so
-- that a change costs one call, and one more for each watched prefix of its keys, whatever the number of watches.
local function announce(id, tied, written)
  if lengths == '' then return end
  local reach, channels, asked = {}, {}, {}
  for length in string.gmatch(lengths, '%d+') do reach[#reach + 1] = tonumber(length) end
  for _, keys in ipairs(written) do
    for _, key in ipairs(keys) do
      for _, length in ipairs(reach) do
        if length > #key then break end
        local prefix = string.sub(key, 1, length)
        if not asked[prefix] then
          asked[prefix] = true
          channels[#channels + 1] = STEM .. prefix
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

-- Puts and deletes keys as one revision, and answers how many keys it made. found: the fields of DATA that the puts,
-- then the deletes find. sessions: by the number of the put. Messages and the stream come first: they alone can be
-- refused, and then nothing has been applied. Each kind of write is one command for all keys, as commands are what costs.
local function commit(puts, values, sessions, deletes, found)
  local gone, made, untied, tied, sets = {}, {}, {}, {}, {}
  local id = digits(revision + 1)
  local tail = ' ' .. id .. ' '
  for n, key in ipairs(puts) do
    local created, session, old = id, sessions[n], nil
    if found[n] then created, old = parse(found[n]) end
    if not old then
      made[#made + 1] = '0'
      made[#made + 1] = key
    elseif old ~= '' then
      untied[#untied + 1] = old .. '\0' .. key
    end
    sets[2 * n - 1] = key
    if session then
      tied[#tied + 1] = '0'
      tied[#tied + 1] = session .. '\0' .. key
      sets[2 * n] = created .. ' ' .. id .. '@' .. session .. ' ' .. values[n]
    else
      sets[2 * n] = created .. tail .. values[n]
    end
  end
  for n, key in ipairs(deletes) do
    local field = found[#puts + n]
    if field then
      gone[#gone + 1] = key
      local _, old = parse(field)
      if old and old ~= '' then untied[#untied + 1] = old .. '\0' .. key end
    end
  end
  if #puts + #gone == 0 then return 0 end
  announce(id, #tied > 0 and 1 or 0, { puts, gone })
  revision, revisionStamp = revision + 1, stamp
  -- No text has the byte 255 in UTF-8.
  mark(id, #puts + #gone)
  redis.call('XADD', CHANGES, id .. '-0', 'stamp', stamp, 'put', table.concat(sets, '\255'),
    'delete', table.concat(gone, '\255'))
  redis.call('HSET', STATE, 'revision', id, 'stamp', stamp, 'unmarked', digits(unmarked))
  if #sets > 0 then redis.call('HSET', DATA, unpack(sets)) end
  if #made > 0 then redis.call('ZADD', INDEX, unpack(made)) end
  if #gone > 0 then
    redis.call('HDEL', DATA, unpack(gone))
    redis.call('ZREM', INDEX, unpack(gone))
  end
  if #untied > 0 then redis.call('ZREM', TIED, unpack(untied)) end
  if #tied > 0 then redis.call('ZADD', TIED, unpack(tied)) end
  return #made / 2
end

-- Removes the keys of expired sessions, then the sessions. True when none is left.
local function reap()
  local budget, over, ties = 256, {}, {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', SESSIONS, '-inf', digits(now), 'LIMIT', '0', '256')) do
    if budget <= 0 then break end
    local some = redis.call('ZRANGEBYLEX', TIED, '[' .. id .. '\0', '(' .. id .. '\0\255', 'LIMIT', 0, budget)
    for _, tie in ipairs(some) do ties[#ties + 1] = { session = id, key = string.sub(tie, #id + 2), member = tie } end
    if #some < budget then over[#over + 1] = id end
    budget = budget - #some - 1
  end
  if #ties > 0 then
    local keys, members, gone, found = {}, {}, {}, {}
    for n, tie in ipairs(ties) do keys[n], members[n] = tie.key, tie.member end
    for n, field in ipairs(redis.call('HMGET', DATA, unpack(keys))) do
      local _, holder = parse(field or '')
      -- One that was removed by hand may have been put again without the session.
      if holder == ties[n].session then gone[#gone + 1], found[#found + 1] = keys[n], field end
    end
    commit({}, {}, {}, gone, found)
    redis.call('ZREM', TIED, unpack(members))
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

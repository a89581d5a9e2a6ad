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
local HISTORY, STEM = ARGV[1], ARGV[2]
-- Numbers that are passed to commands are written as text: Lua's own way to turn them into it is slow.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp = time[1] .. '.' .. time[2]

local state = redis.call('HMGET', STATE, 'era', 'revision', 'stamp', 'lengths')
local era, revision, revisionStamp, lengths = state[1], tonumber(state[2] or 0), state[3] or '', state[4] or ''
if not era then
  -- An empty or emptied database starts a new era.
  era = stamp
  redis.call('HSET', STATE, 'era', era)
end

local function digits(number)
  return string.format('%d', number)
end

local function find(key)
  local member = redis.call('ZRANGEBYLEX', INDEX, '[' .. key .. '\0', '(' .. key .. '\0\255', 'LIMIT', '0', '1')[1]
  if not member then return nil end
  local value = redis.call('HGET', DATA, key)
  local created, modified, session = string.match(string.sub(member, #key + 2), '^(%d+)%z(%d+)%z(.*)$')
  -- A value that was removed by hand reads as absent; its index member goes with the next write.
  local entry = value and { key = key, value = value, created = created, modified = modified, session = session }
  return entry or nil, member, session
end

-- What two histories differ in, whatever their revisions: the era, and the history that this one branched from at
-- the server's last promotion.
local function branch()
  return era .. '/' .. (string.match(redis.call('INFO', 'replication'), 'master_replid2:(%x+)') or '')
end

-- Tells the watches that changes concern, once each: branch, revision, stamp, whether a key was tied to a session. It
-- asks for prefixes of a length that somebody has watched, and tells those that somebody listens to now, so that a
-- change costs one call, and one more for each watched prefix of its keys, whatever the number of watches.
local function announce(changes, id)
  if lengths == '' then return end
  local reach, channels, asked, tied = {}, {}, {}, 0
  for length in string.gmatch(lengths, '%d+') do reach[#reach + 1] = tonumber(length) end
  for _, change in ipairs(changes) do
    local key = change.key
    if (change.session or '') ~= '' then tied = 1 end
    for _, length in ipairs(reach) do
      if length > #key then break end
      local prefix = string.sub(key, 1, length)
      if not asked[prefix] then
        asked[prefix] = true
        channels[#channels + 1] = STEM .. prefix
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

-- Applies changes {key, value or nil, session} as one revision, and answers how many keys it made. Messages and
-- the stream come first: they alone can be refused, and then nothing has been applied.
local function commit(changes)
  local effective, made = {}, 0
  for _, change in ipairs(changes) do
    change.old, change.member, change.tie = find(change.key)
    if change.value or change.member then effective[#effective + 1] = change end
    if change.value and not change.old then made = made + 1 end
  end
  if #effective == 0 then return 0 end
  revision, revisionStamp = revision + 1, stamp
  local id = digits(revision)
  announce(effective, id)
  for n, change in ipairs(effective) do
    change.created = change.old and change.old.created or id
    redis.call('XADD', CHANGES, 'MAXLEN', '~', HISTORY, id .. '-' .. (n - 1),
      'op', change.value and 'put' or 'delete', 'key', change.key, 'value', change.value or '',
      'created', change.created, 'session', change.session or '', 'stamp', stamp)
  end
  redis.call('HSET', STATE, 'revision', id, 'stamp', stamp)
  for _, change in ipairs(effective) do
    local key = change.key
    if change.member then redis.call('ZREM', INDEX, change.member) end
    if change.tie and change.tie ~= '' then redis.call('ZREM', TIED, change.tie .. '\0' .. key) end
    if change.value then
      local session = change.session or ''
      redis.call('HSET', DATA, key, change.value)
      redis.call('ZADD', INDEX, '0', key .. '\0' .. change.created .. '\0' .. id .. '\0' .. session)
      if session ~= '' then redis.call('ZADD', TIED, '0', session .. '\0' .. key) end
    else
      redis.call('HDEL', DATA, key)
    end
  end
  return made
end

-- Removes the keys of expired sessions, then the sessions. True when none is left.
local function reap()
  local budget, over, gone = 256, {}, {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', SESSIONS, '-inf', digits(now), 'LIMIT', '0', '256')) do
    if budget <= 0 then break end
    local ties = redis.call('ZRANGEBYLEX', TIED, '[' .. id .. '\0', '(' .. id .. '\0\255', 'LIMIT', 0, budget)
    for _, tie in ipairs(ties) do gone[#gone + 1] = { key = string.sub(tie, #id + 2) } end
    if #ties < budget then over[#over + 1] = id end
    budget = budget - #ties - 1
  end
  if #gone > 0 then commit(gone) end
  for _, id in ipairs(over) do redis.call('ZREM', SESSIONS, id) end
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

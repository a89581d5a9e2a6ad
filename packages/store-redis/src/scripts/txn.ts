import { defineScript, type Script } from "./prelude.ts";

/**
 * Applies the first step whose compares hold.
 *
 *   ARGV[3]  JSON, of each step {compares, put, deletes, gets}:
 *            compares  key, block, bit, kind, operand in turn     kind: exists ("1" or "0"), created, modified, value
 *            put       block, mask, session or "" in turn: where the keys are that the step puts
 *            deletes, gets  key, block, bit in turn
 *   ARGV[4…] of each step what it puts: keys and values in turn as a MessagePack array, or empty
 *   result   {done, step, revision, incarnation, era, reads, made}
 *                                                          step: from 0; made: 1 if a key is new
 *                                                          reads: value, then createRevision and modRevision, or nil twice
 *            {gone, session}                               a put names a session that is over; nothing applied
 */
const body = `
if not reap() then return { 0 } end

-- Every n-th of a list, from the first on.
local function each(list, first, n)
  local some = {}
  for at = first, #list, n do some[#some + 1] = list[at] end
  return some
end

local function values(keys)
  if #keys == 0 then return {} end
  return redis.call('HMGET', DATA, unpack(keys))
end

local function hold(compares)
  local named = {}
  for n = 2, #compares, 5 do
    if compares[n + 2] == 'created' or compares[n + 2] == 'modified' then named[#named + 1] = compares[n] end
  end
  load(named)
  for n, value in ipairs(values(each(compares, 1, 5))) do
    local _, block, mask, kind, operand = unpack(compares, 5 * n - 4, 5 * n)
    local actual
    if kind == 'exists' then
      actual = value and '1' or '0'
    elseif value then
      if kind == 'value' then
        actual = value
      else
        -- Written by hand: as if it had been there from the start.
        local row = rowOf(block, mask) or { '1', '1' }
        actual = kind == 'created' and row[1] or row[2]
      end
    end
    if actual ~= operand then return false end
  end
  return true
end

local steps = cjson.decode(ARGV[3])
local step = 1
while not hold(steps[step][1]) do step = step + 1 end
local _, put, deletes, gets = unpack(steps[step])
for _, session in ipairs(each(put, 3, 3)) do
  if session ~= '' and not redis.call('ZSCORE', SESSIONS, session) then return { 2, session } end
end
load(each(put, 1, 3))
load(each(deletes, 2, 3))
load(each(gets, 2, 3))
local reads = {}
for n, value in ipairs(values(each(gets, 1, 3))) do
  local row = value and (rowOf(gets[3 * n - 1], gets[3 * n]) or { '1', '1' })
  reads[2 * n - 1], reads[2 * n] = value, row and row[1] .. ' ' .. row[2]
end
local packed = ARGV[3 + step]
local made = commit(packed, packed == '' and {} or cmsgpack.unpack(packed), put, deletes)
return { 1, step - 1, revision, incarnation(), era, reads, made and 1 or 0 }
`;

export const txn: Script = defineScript("txn", body, { whenFull: false });

/** The same for a transaction that puts nothing: it must work on a full server, to read and to make room. */
export const txnWithoutPut: Script = defineScript("txn-without-put", body, { whenFull: true });

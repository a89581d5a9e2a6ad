import { defineScript, type Script } from "./prelude.ts";

/**
 * Applies the first step whose compares hold. A key is its block and its bit there.
 *
 *   ARGV[3]  JSON, of each step {compares, puts, deletes, gets}:
 *            compares  block, bit, kind, operand in turn     kind: exists ("1" or "0"), created, modified, value
 *            puts      of each block {block, mask, session or "", …}: its keys in turn by what they hang on
 *            deletes   block and mask in turn
 *            gets      block and bit in turn
 *   ARGV[4…] of each block of all steps' puts the values of its keys, in their order, joined by bytes 255
 *   result   {done, step, revision, incarnation, era, reads, made}
 *                                                          step: from 0; made: 1 if a key is new
 *                                                          reads: value, then createRevision and modRevision, or nil twice
 *            {gone, session}                               a put names a session that is over; nothing applied
 */
const body = `
if not reap() then return { 0 } end

-- Every n-th of a list, from the first on.
local function each(list, n)
  local some = {}
  for at = 1, #list, n do some[#some + 1] = list[at] end
  return some
end

-- Calls back with the row that a key is in and its value, or nil twice, for each key that a list names, block and bit, at
-- every n-th place.
local function read(list, n, take)
  local names = each(list, n)
  if #names == 0 then return end
  load(names)
  for at, joined in ipairs(redis.call('HMGET', DATA, unpack(names))) do
    local place = (at - 1) * n + 1
    local row, value
    if joined then
      local _, taken, all = takeRows(blocks[names[at]], list[place + 1])
      row = taken[1]
      -- Written by hand: as if it had been there from the start.
      if all == 0 and not stemOf(names[at]) then row = { '1', '1' } end
      value = row and valueIn(joined, all, list[place + 1])
    end
    take(place, row, value)
  end
end

local function hold(compares)
  local all = true
  read(compares, 4, function(at, row, value)
    local kind, operand, actual = compares[at + 2], compares[at + 3], nil
    if kind == 'exists' then
      actual = row and '1' or '0'
    elseif row then
      actual = kind == 'value' and value or row[kind == 'created' and 1 or 2]
    end
    all = all and actual == operand
  end)
  return all
end

local steps, step, values = cjson.decode(ARGV[3]), 1, 3
while not hold(steps[step][1]) do step, values = step + 1, values + #steps[step][2] end
local _, puts, deletes, gets = unpack(steps[step])
local names = {}
for n, put in ipairs(puts) do
  names[n] = put[1]
  for at = 3, #put, 2 do
    if put[at] ~= '' and not redis.call('ZSCORE', SESSIONS, put[at]) then return { 2, put[at] } end
  end
end
load(names)
load(each(deletes, 2))
local reads = {}
read(gets, 2, function(at, row, value)
  reads[at], reads[at + 1] = value or false, row and row[1] .. ' ' .. row[2] or false
end)
local made = commit(puts, values, deletes)
return { 1, step - 1, revision, incarnation(), era, reads, made and 1 or 0 }
`;

export const txn: Script = defineScript("txn", body, { whenFull: false });

/** The same for a transaction that puts nothing: it must work on a full server, to read and to make room. */
export const txnWithoutPut: Script = defineScript("txn-without-put", body, { whenFull: true });

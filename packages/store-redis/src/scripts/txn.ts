import { defineScript, type Script } from "./prelude.ts";

/**
 * Applies the first step whose compares hold. What is alike stands together, so that one command can take it.
 *
 *   ARGV[3]  how many, for each step: compares, puts, deletes, gets, ties
 *   ARGV[4…] each step: keys of compares; then (kind, operand) each     kind: exists ("1" or "0"), created, modified, value
 *            keys of puts, deletes, gets; values of puts; then ties: (number of the put, session) each
 *   result   {done, step, revision, reads, made}           step: from 0; reads: fields, see layout.ts, or nil each; made: keys that are new
 *            {gone, session, key}                          a put names a session that is over; nothing applied
 */
const body = `
if not reap() then return { 0 } end

local counts, place = {}, 4
for count in string.gmatch(ARGV[3], '%d+') do counts[#counts + 1] = tonumber(count) end
local function take(count)
  place = place + count
  return unpack(ARGV, place - count, place - 1)
end
local function find(count)
  if count == 0 then return {} end
  return redis.call('HMGET', DATA, take(count))
end

local function hold(compares)
  local all = true
  for _, field in ipairs(find(compares)) do
    local kind, operand = take(2)
    local actual
    if kind == 'exists' then
      actual = field and '1' or '0'
    elseif field then
      local created, _, modified, at = parse(field)
      if kind == 'created' then actual = created
      elseif kind == 'modified' then actual = modified
      else actual = string.sub(field, at) end
    end
    if actual ~= operand then all = false end
  end
  return all
end

local puts, deletes, gets, ties = 0, 0, 0, 0
local step, steps = 0, #counts / 5
while step < steps do
  puts, deletes, gets, ties = unpack(counts, 5 * step + 2, 5 * step + 5)
  if hold(counts[5 * step + 1]) then break end
  place = place + 2 * puts + deletes + gets + 2 * ties
  puts, deletes, gets, ties = 0, 0, 0, 0
  step = step + 1
end
local first, writes = place, puts + deletes
local found = find(writes + gets)
local values, sessions = { take(puts) }, {}
for _ = 1, ties do
  local put, session = take(2)
  if not redis.call('ZSCORE', SESSIONS, session) then return { 2, session, ARGV[first + put - 1] } end
  sessions[tonumber(put)] = session
end
local made = commit({ unpack(ARGV, first, first + puts - 1) }, values, sessions,
  { unpack(ARGV, first + puts, first + writes - 1) }, found)
return { 1, step, revision, { unpack(found, writes + 1, writes + gets) }, made }
`;

export const txn: Script = defineScript("txn", body, { whenFull: false });

/** The same for a transaction that puts nothing: it must work on a full server, to read and to make room. */
export const txnWithoutPut: Script = defineScript("txn-without-put", body, { whenFull: true });

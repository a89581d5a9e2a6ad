import { defineScript, type Script } from "./prelude.ts";

/**
 * Compares, then applies one branch.
 *
 *   ARGV[3…]  n, then n × (kind, key, operand)             kind: exists ("1" or "0"), created, modified, value
 *             n, then n × (op, key, value, session)        the `then` branch; op: put, delete, get
 *             n, then n × (op, key, value, session)        the `else` branch
 *   result    {done, succeeded, revision, reads, made}     reads: {key, value, created, modified} or nil each; made: keys that are new
 *             {gone, session, key}                         a put names a session that is over; nothing applied
 */
const body = `
if not reap() then return { 0 } end

local position = 2
local function take()
  position = position + 1
  return ARGV[position]
end

local succeeded = 1
for _ = 1, tonumber(take()) do
  local kind, key, operand = take(), take(), take()
  local entry = find(key)
  local actual
  if kind == 'exists' then actual = entry and '1' or '0' else actual = entry and entry[kind] end
  if actual ~= operand then succeeded = 0 end
end

local branches = {}
for branch = 1, 2 do
  branches[branch] = {}
  for n = 1, tonumber(take()) do
    branches[branch][n] = { op = take(), key = take(), value = take(), session = take() }
  end
end

local changes, reads = {}, {}
for _, operation in ipairs(branches[succeeded == 1 and 1 or 2]) do
  if operation.op == 'get' then
    local entry = find(operation.key)
    reads[#reads + 1] = entry and { entry.key, entry.value, entry.created, entry.modified } or false
  else
    local session = operation.session
    if session ~= '' and not redis.call('ZSCORE', SESSIONS, session) then return { 2, session, operation.key } end
    if operation.op == 'delete' then operation.value = nil end
    changes[#changes + 1] = operation
  end
end
local made = commit(changes)
return { 1, succeeded, revision, reads, made }
`;

export const txn: Script = defineScript("txn", body, { whenFull: false });

/** The same for a transaction that puts nothing: it must work on a full server, to read and to make room. */
export const txnWithoutPut: Script = defineScript("txn-without-put", body, { whenFull: true });

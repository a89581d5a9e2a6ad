import { defineScript, type Script } from "./prelude.ts";

/**
 * What changed under a prefix after a revision, whole revisions only.
 *
 *   ARGV[2]  prefix, may be empty
 *   ARGV[3]  revision
 *   ARGV[4]  stamp of that revision where the caller knows it, else empty
 *   result   {done, revision, stamp, more, changes}        true up to `revision`; changes: {revision, op, key, value, created} each
 *            {gone}                                        the history after that revision is not all there, or it is another one
 *
 * Revisions have no holes in the stream and it is trimmed from its old end, so the history is whole exactly
 * when the given revision itself is still in it. Its stamp tells a history that went on from one that lost its
 * newest writes and grew others of the same number.
 */
export const changes: Script = defineScript(
  "changes",
  `
if not reap() then return { 0 } end

local prefix, position, known = ARGV[2], ARGV[3], ARGV[4]
local since = tonumber(position)
if since > revision then return { 2 } end
if since > 0 then
  local entry = redis.call('XRANGE', CHANGES, position, position, 'COUNT', 1)[1]
  if not entry or known ~= '' and entry[2][12] ~= known then return { 2 } end
  known = entry[2][12]
elseif revision > 0 then
  local entry = redis.call('XRANGE', CHANGES, '-', '+', 'COUNT', 1)[1]
  if not entry or entry[1] ~= '1-0' then return { 2 } end
end

local found, scanned, bytes, chunk = {}, 0, 0, 100
local start = digits(since + 1) .. '-0'
while true do
  local entries = redis.call('XRANGE', CHANGES, start, '+', 'COUNT', chunk)
  for _, entry in ipairs(entries) do
    local at, fields = string.match(entry[1], '^%d+'), entry[2]
    if at ~= position then
      if scanned >= 1000 or bytes >= 4194304 then return { 1, tonumber(position), known, 1, found } end
      position, known = at, fields[12]
    end
    scanned = scanned + 1
    local key, value = fields[4], fields[6]
    if string.sub(key, 1, #prefix) == prefix then
      found[#found + 1] = { at, fields[2], key, value, fields[8] }
      bytes = bytes + #key + #value
    end
  end
  if #entries < chunk then break end
  start = '(' .. entries[#entries][1]
end
return { 1, tonumber(position), known, 0, found }
`,
  { whenFull: true },
);

import { defineScript, type Script } from "./prelude.ts";

/**
 * What changed under a prefix from one revision to another, whole revisions only.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  revision to start at
 *   ARGV[5]  stamp of that revision where the caller knows it, else empty
 *   ARGV[6]  1 to tell of that revision too, 0 to start after it
 *   ARGV[7]  last revision to tell of, or empty for the newest
 *   result   {done, revision, stamp, more, changes}        true up to `revision`; changes: {revision, op, key, value, created} each
 *            {gone}                                        the history from that revision is not all there, or it is another one
 *
 * Revisions have no holes in the stream and it is trimmed from its old end, so the history is whole exactly
 * when the given revision itself is still in it. Its stamp tells a history that went on from one that lost its
 * newest writes and grew others of the same number.
 */
export const changes: Script = defineScript(
  "changes",
  `
if not reap() then return { 0 } end

local prefix, position, known = ARGV[3], ARGV[4], ARGV[5]
local since, last = tonumber(position), tonumber(ARGV[7])
if since > revision then return { 2 } end
if since > 0 then
  local entry = redis.call('XRANGE', CHANGES, position, position, 'COUNT', 1)[1]
  if not entry or known ~= '' and entry[2][12] ~= known then return { 2 } end
  known = entry[2][12]
elseif revision > 0 then
  local entry = redis.call('XRANGE', CHANGES, '-', '+', 'COUNT', 1)[1]
  if not entry or entry[1] ~= '1-0' then return { 2 } end
end

-- Pieces grow: what is announced is mostly one revision of a few changes.
local found, scanned, bytes, chunk = {}, 0, 0, 10
local start = ARGV[6] == '1' and position .. '-0' or digits(since + 1) .. '-0'
local stop = last and digits(last) .. '-18446744073709551615' or '+'
while true do
  local entries = redis.call('XRANGE', CHANGES, start, stop, 'COUNT', chunk)
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
  start, chunk = '(' .. entries[#entries][1], math.min(chunk * 2, 160)
end
return { 1, tonumber(position), known, 0, found }
`,
  { whenFull: true },
);

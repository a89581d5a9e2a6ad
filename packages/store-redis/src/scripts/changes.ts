import { defineScript, type Script } from "./prelude.ts";

/**
 * What changed under a prefix from one revision to another, whole revisions only.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  revision to start at
 *   ARGV[5]  stamp of that revision where the caller knows it, else empty
 *   ARGV[6]  1 to tell of that revision too, 0 to start after it
 *   ARGV[7]  last revision to tell of, or empty for the newest
 *   result   {done, revision, stamp, more, changes}        true up to `revision`; changes: {revision, put, deleted} each, of
 *                                                          whole blocks that have keys under the prefix, or might: as in
 *                                                          the stream, see layout.ts; put: of each block its name, its rows
 *                                                          and its values, joined by bytes 255, and a byte 254
 *            {gone}                                        the history from that revision is not all there, or it is another one
 *
 * Revisions have no holes in the stream and it is trimmed from its old end, so the history is whole exactly
 * when the given revision itself is still in it. Its stamp tells a history that went on from one that lost its
 * newest writes and grew others of the same number.
 */
export const changes: Script = defineScript(
  "changes",
  String.raw`
if not reap() then return { 0 } end

local prefix, position, known = ARGV[3], ARGV[4], ARGV[5]
local since, last = tonumber(position), tonumber(ARGV[7])
if since > revision then return { 2 } end
if since > 0 then
  local entry = redis.call('XRANGE', CHANGES, position, position, 'COUNT', 1)[1]
  if not entry or known ~= '' and entry[2][2] ~= known then return { 2 } end
  known = entry[2][2]
elseif revision > 0 then
  local entry = redis.call('XRANGE', CHANGES, '-', '+', 'COUNT', 1)[1]
  if not entry or entry[1] ~= '1-0' then return { 2 } end
end

-- Whether keys of a block may be under the prefix.
local function concerns(name)
  if sub(name, 1, #prefix) == prefix then return true end
  local stem = stemOf(name)
  return stem and sub(prefix, 1, #stem) == stem
end

local found, scanned, bytes = {}, 0, 0
local start = ARGV[6] == '1' and position .. '-0' or digits(since + 1) .. '-0'
local stop = last and digits(last) .. '-0' or '+'
while true do
  local entries = redis.call('XRANGE', CHANGES, start, stop, 'COUNT', 16)
  for _, entry in ipairs(entries) do
    if scanned >= 1000 or bytes >= 4194304 then return { 1, tonumber(position), known, 1, found } end
    local fields, put, gone = entry[2], {}, {}
    position, known, scanned = string.match(entry[1], '^%d+'), fields[2], scanned + 1
    for n = 5, #fields, 2 do
      local block, values = fields[n], fields[n + 1]
      bytes = bytes + #block + #values
      if concerns(string.match(block, '^[^\255]+')) then
        local at = #put
        put[at + 1], put[at + 2], put[at + 3], put[at + 4] = block, '\255', values, '\254'
      end
    end
    for name, mask in gmatch(fields[4], '([^\255]+)\255([^\255]+)') do
      if concerns(name) then gone[#gone + 1], gone[#gone + 2] = name, mask end
    end
    if #put + #gone > 0 then found[#found + 1] = { position, concat(put), concat(gone, '\255') } end
  end
  if #entries < 16 then break end
  start = '(' .. entries[#entries][1]
end
return { 1, tonumber(position), known, 0, found }
`,
  { whenFull: true },
);

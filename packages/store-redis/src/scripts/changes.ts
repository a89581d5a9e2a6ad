import { defineScript, type Script } from "./prelude.ts";

/**
 * What changed under a prefix from one revision to another, whole revisions only.
 *
 *   ARGV[3]  prefix, may be empty
 *   ARGV[4]  revision to start at
 *   ARGV[5]  stamp of that revision where the caller knows it, else empty
 *   ARGV[6]  1 to tell of that revision too, 0 to start after it
 *   ARGV[7]  last revision to tell of, or empty for the newest
 *   result   {done, revision, stamp, more, changes}        true up to `revision`; changes: {revision, put, kept, deleted} each:
 *                                                          as in the stream, see layout.ts, but all joined by bytes 255
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

local found, scanned, bytes = {}, 0, 0
local start = ARGV[6] == '1' and position .. '-0' or digits(since + 1) .. '-0'
local stop = last and digits(last) .. '-0' or '+'
while true do
  local entries = redis.call('XRANGE', CHANGES, start, stop, 'COUNT', 16)
  for _, entry in ipairs(entries) do
    if scanned >= 1000 or bytes >= 4194304 then return { 1, tonumber(position), known, 1, found } end
    local _, stamped, _, put, _, kept, _, deleted = unpack(entry[2])
    position, known = string.match(entry[1], '^%d+'), stamped
    scanned, bytes = scanned + 1, bytes + #put + #kept + #deleted
    -- Most are not concerned, which this tells at once.
    if string.find(put, prefix, 1, true) or string.find(deleted, prefix, 1, true) then
      local sets, gone = {}, {}
      local pairs = put == '' and {} or cmsgpack.unpack(put)
      for n = 1, #pairs, 2 do
        if string.sub(pairs[n], 1, #prefix) == prefix then sets[#sets + 1], sets[#sets + 2] = pairs[n], pairs[n + 1] end
      end
      for key in string.gmatch(deleted, '[^\255]+') do
        if string.sub(key, 1, #prefix) == prefix then gone[#gone + 1] = key end
      end
      if #sets + #gone > 0 then
        found[#found + 1] = { position, table.concat(sets, '\255'), kept, table.concat(gone, '\255') }
      end
    end
  end
  if #entries < 16 then break end
  start = '(' .. entries[#entries][1]
end
return { 1, tonumber(position), known, 0, found }
`,
  { whenFull: true },
);

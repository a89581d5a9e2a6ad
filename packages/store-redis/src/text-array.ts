/**
 * Texts as a MessagePack array (its specification: array 16, fixstr, str 8, 16 and 32), which scripts take apart in one
 * call. A script's many arguments instead would be as many strings to parse for Redis.
 */
export function packTexts(texts: readonly string[]): Buffer {
  let most = 3;
  // A UTF-16 unit is 3 bytes at most.
  for (const text of texts) most += 5 + 3 * text.length;
  const bytes = Buffer.allocUnsafe(most);
  bytes[0] = 0xdc;
  let at = bytes.writeUInt16BE(texts.length, 1);
  for (const text of texts) {
    const head = headLength(3 * text.length);
    const length = bytes.write(text, at + head);
    if (head === 1) bytes[at] = 0xa0 | length;
    else if (head === 2) {
      bytes[at] = 0xd9;
      bytes[at + 1] = length;
    } else if (head === 3) {
      bytes[at] = 0xda;
      bytes.writeUInt16BE(length, at + 1);
    } else {
      bytes[at] = 0xdb;
      bytes.writeUInt32BE(length, at + 1);
    }
    at += head + length;
  }
  return bytes.subarray(0, at);
}

/** Bytes in front of a text that has so many at most. A longer form than needed is allowed. */
function headLength(most: number): number {
  if (most < 32) return 1;
  if (most < 256) return 2;
  return most < 65_536 ? 3 : 5;
}

/** Text that was joined by bytes 255, which UTF-8 does not have. */
export function splitTexts(joined: Buffer): string[] {
  if (joined.length === 0) return [];
  const latin = joined.toString("latin1");
  const parts = latin.split("\u00ff");
  // As a rule it is all ASCII, and then done.
  if (!/[\u0080-\u00fe]/.test(latin)) return parts;
  return parts.map((part) => (part === removed ? part : Buffer.from(part, "latin1").toString("utf8")));
}

/** What stands, joined with others, for a text that is not there. */
export const removed = "\u00fe";

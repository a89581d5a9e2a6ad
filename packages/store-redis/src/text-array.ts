/** What stands between texts that are joined: the byte 255, which UTF-8 does not have. */
const separator = "\u00ff";

/** Texts joined by bytes 255, as an argument; one alone is itself. */
export function joinTexts(texts: readonly string[]): string | Buffer {
  const [only = ""] = texts;
  if (texts.length < 2) return only;
  const joined = texts.join(separator);
  // As a rule it is all ASCII, so that nothing but what stands between them is longer in UTF-8.
  if (Buffer.byteLength(joined) === joined.length + texts.length - 1) return Buffer.from(joined, "latin1");
  return Buffer.from(texts.map((text) => Buffer.from(text).toString("latin1")).join(separator), "latin1");
}

/** Takes apart what was joined. */
export function splitTexts(joined: Buffer): string[] {
  if (joined.length === 0) return [];
  const latin = joined.toString("latin1");
  const parts = latin.split(separator);
  if (!/[\u0080-\u00fe]/.test(latin)) return parts;
  return parts.map((part) => Buffer.from(part, "latin1").toString("utf8"));
}

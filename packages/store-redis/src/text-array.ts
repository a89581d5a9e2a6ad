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
  return splitBlocks(joined)[0] ?? [];
}

/** Takes apart what was joined, and has a byte 254 behind, from one block to the next. UTF-8 does not have that either. */
export function splitBlocks(blocks: Buffer): string[][] {
  if (blocks.length === 0) return [];
  const latin = blocks.toString("latin1");
  // As a rule it is all ASCII, and then done.
  const isPlain = !/[\u0080-\u00fd]/.test(latin);
  const split = latin.split("\u00fe").map((block) => block.split(separator));
  if (latin.endsWith("\u00fe")) split.pop();
  if (isPlain) return split;
  return split.map((texts) => texts.map((text) => Buffer.from(text, "latin1").toString("utf8")));
}

import { InvalidError } from "@cocoon-net/core";

export type OutputFormat = "table" | "json" | "yaml";

/** @throws {InvalidError} */
export function parseFormat(text: string): OutputFormat {
  if (text === "table" || text === "json" || text === "yaml") return text;
  throw new InvalidError(`output format "${text}" is not table, json or yaml`);
}

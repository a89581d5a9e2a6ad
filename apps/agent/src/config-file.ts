import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { describeError, InvalidError } from "@cocoon-net/core";
import { isMap, isScalar, LineCounter, type Node, parseDocument } from "yaml";
import type { DriverPlaces } from "./drivers.ts";

/** What `--config` names. Flags and environment variables win over it. */
export interface ConfigFile {
  readonly path: string;
  /** URL of the cluster's store. */
  readonly store: string | undefined;
  readonly drivers: DriverPlaces;
}

const known = ["store", "drivers"] as const;

/** @throws {InvalidError} naming file, line and key of what is wrong */
export async function readConfigFile(file: string): Promise<ConfigFile> {
  const path = resolve(file);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new InvalidError(`config file ${path} cannot be read: ${describeError(cause)}`, { cause });
  }
  return parseConfig(text, path);
}

/** @throws {InvalidError} */
export function parseConfig(text: string, path: string): ConfigFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number | undefined): string => `${path}:${lines.linePos(offset ?? 0).line || 1}`;
  const [problem] = [...document.errors, ...document.warnings];
  if (problem) throw new InvalidError(`${at(problem.pos[0])}: is not YAML: ${problem.message}`);
  const refuse = (node: unknown, what: string, hint?: string): InvalidError =>
    new InvalidError(`${at(offsetOf(node))}: ${what}`, hint === undefined ? {} : { hint });

  const fields = entriesOf(document.contents, refuse, "the file");
  for (const [name, { key }] of fields) {
    if (!known.some((one) => one === name)) {
      throw refuse(key, `unknown key "${name}"`, `it takes ${known.join(" and ")}`);
    }
  }
  const textOf = (name: string, { key, value }: Field): string => {
    if (isScalar(value) && typeof value.value === "string" && value.value !== "") return value.value;
    throw refuse(value ?? key, `"${name}" is not a text`);
  };
  const store = fields.get("store");
  const drivers = fields.get("drivers");
  const named = new Map<string, string>();
  if (drivers) {
    for (const [name, field] of entriesOf(drivers.value, refuse, '"drivers"')) {
      named.set(name, textOf(`drivers.${name}`, field));
    }
  }
  return {
    path,
    store: store && textOf("store", store),
    drivers: { named, directory: dirname(path), file: path },
  };
}

interface Field {
  readonly key: unknown;
  readonly value: unknown;
}

/** A mapping's entries; none where there is nothing. */
function entriesOf(
  node: unknown,
  refuse: (node: unknown, what: string) => InvalidError,
  what: string,
): ReadonlyMap<string, Field> {
  const fields = new Map<string, Field>();
  if (node === null || node === undefined || (isScalar(node) && node.value === null)) return fields;
  if (!isMap(node)) throw refuse(node, `${what} is not a mapping of names to values`);
  for (const { key, value } of node.items) {
    const name = isScalar(key) ? String(key.value) : undefined;
    if (name === undefined) throw refuse(key, `${what} has a key that is not a name`);
    fields.set(name, { key, value });
  }
  return fields;
}

function offsetOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}

import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { describeError, InvalidError } from "@cocoon-net/core";
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import type { DriverPlaces } from "./drivers.ts";

/** What `--config` names. Flags and environment variables win over it. */
export interface ConfigFile {
  readonly path: string;
  /** Values of options by name, and under a command's name those for it alone. */
  readonly settings: Settings;
  readonly drivers: DriverPlaces;
  /** How the built-in DHCP server serves; for `parseDhcpConfig`. Undefined when the file says nothing of it. */
  readonly dhcp: Section | undefined;
  /** How clouds are asked; for `parseCloudConfig`. */
  readonly cloud: Section | undefined;
}

/** What is no option's value. */
export interface Section {
  readonly at: string;
  readonly value: unknown;
}

export type Settings = ReadonlyMap<string, Setting>;

export interface Setting {
  /** `FILE:LINE` of the key, for messages. */
  readonly at: string;
  readonly value: Scalar | readonly Scalar[] | Settings;
}

export type Scalar = string | number | boolean;

/** What is no option's name. */
const ownKeys = ["drivers", "dhcp", "cloud"];

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
  const refuse = (node: unknown, what: string): InvalidError =>
    new InvalidError(`${at(offsetOf(node))}: ${what}`);

  const fields = entriesOf(document.contents, refuse, "the file");
  const drivers = fields.get("drivers");
  const named = new Map<string, string>();
  if (drivers) {
    for (const [name, { key, value }] of entriesOf(drivers.value, refuse, '"drivers"')) {
      if (!isScalar(value) || typeof value.value !== "string" || value.value === "") {
        throw refuse(value ?? key, `"drivers.${name}" is not a text`);
      }
      named.set(name, value.value);
    }
  }
  const settingsOf = (of: ReadonlyMap<string, Field>, path: string): Settings =>
    new Map([...of].map(([name, field]) => [name, settingOf(field, `${path}${name}`)]));
  const settingOf = ({ key, value }: Field, path: string): Setting => {
    const where = at(offsetOf(key));
    if (isMap(value))
      return { at: where, value: settingsOf(entriesOf(value, refuse, `"${path}"`), `${path}.`) };
    if (isSeq(value)) return { at: where, value: value.items.map((item) => scalarOf(item, key, path)) };
    return { at: where, value: scalarOf(value, key, path) };
  };
  const scalarOf = (node: unknown, key: unknown, path: string): Scalar => {
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
    throw refuse(node ?? key, `"${path}" has no value`);
  };
  const sectionOf = (name: string): Section | undefined => {
    const field = fields.get(name);
    return (
      field && { at: at(offsetOf(field.key)), value: (document.toJS() as Record<string, unknown>)[name] }
    );
  };
  return {
    path,
    settings: settingsOf(new Map([...fields].filter(([name]) => !ownKeys.includes(name))), ""),
    drivers: { named, directory: dirname(path), file: path },
    dhcp: sectionOf("dhcp"),
    cloud: sectionOf("cloud"),
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

import { InvalidError } from "@cocoon-net/core";
import { InvalidArgumentError } from "commander";
import { type FaultRule, readFaultRule } from "../faults.ts";
import type { ListenAddress } from "../http-listener.ts";

/** Readers of the command's arguments; each throws what commander shows. */

export function parseListen(text: string): ListenAddress {
  const match = /^(.+):(\d{1,5})$/.exec(text);
  const host = match?.[1]?.replaceAll(/[[\]]/g, "");
  const port = Number(match?.[2]);
  if (!host || !(port <= 65_535)) throw new InvalidArgumentError("Give HOST:PORT, e.g. 127.0.0.1:8080.");
  return { host, port };
}

export function parseNumber(text: string): number {
  const value = Number(text);
  if (text === "" || !(value >= 0)) throw new InvalidArgumentError("Give a number.");
  return value;
}

/** One of several: `--instance a --instance b`. */
export function collect(text: string, earlier: readonly string[]): readonly string[] {
  return [...earlier, text];
}

export type Named<T> = Readonly<Record<string, T>>;

/** Repeatable. @param form `NAME=VALUE`, for messages */
export function pairOf(form: string): (text: string, earlier: Named<string>) => Named<string> {
  return (text, earlier) => {
    const mark = text.indexOf("=");
    if (mark < 1 || mark === text.length - 1) throw new InvalidArgumentError(`Give ${form}.`);
    return { ...earlier, [text.slice(0, mark)]: text.slice(mark + 1) };
  };
}

/** Name and value. */
function readPair(text: string): readonly [name: string, value: string] {
  return Object.entries(pairOf("NAME=VALUE")(text, {}))[0] ?? ["", ""];
}

/** `NAME=NUMBER` of the names that have a number in `known`, repeatable. */
export function numberOf(known: object): (text: string, earlier: Named<number>) => Named<number> {
  const names = numericNames(known);
  return (text, earlier) => {
    const [name, value] = readPair(text);
    if (!names.includes(name)) throw new InvalidArgumentError(`Give one of ${names.join(", ")}.`);
    return { ...earlier, [name]: parseNumber(value) };
  };
}

/** The same, or a number for all of `names`. */
export function numberOfAny(
  known: object,
  names: readonly string[],
): (text: string, earlier: Named<number>) => Named<number> {
  return (text, earlier) => {
    if (text.includes("=")) return numberOf(known)(text, earlier);
    const value = parseNumber(text);
    return { ...Object.fromEntries(names.map((name) => [name, value])), ...earlier };
  };
}

/** Names of the settings that are a number, or none. */
export function numericNames(known: object): string[] {
  return Object.entries(known)
    .filter(([, value]) => typeof value === "number" || value === undefined)
    .map(([name]) => name);
}

/** `NAME=VALUE` of these choices, repeatable. */
export function choiceOf(
  choices: Named<readonly (string | number | boolean)[]>,
): (text: string, earlier: Named<unknown>) => Named<unknown> {
  return (text, earlier) => {
    const [name, value] = readPair(text);
    const known = Object.hasOwn(choices, name) ? choices[name] : undefined;
    if (known === undefined) {
      throw new InvalidArgumentError(`Give one of ${Object.keys(choices).join(", ")}.`);
    }
    const found = known.find((choice) => String(choice) === value);
    if (found === undefined) throw new InvalidArgumentError(`Give ${name}=${known.join("|")}.`);
    return { ...earlier, [name]: found };
  };
}

export function parseFault(text: string, earlier: readonly FaultRule[]): readonly FaultRule[] {
  try {
    return [...earlier, readFaultRule(JSON.parse(text))];
  } catch (error) {
    if (error instanceof SyntaxError) throw new InvalidArgumentError('Give JSON, e.g. {"kind": "throttle"}.');
    if (error instanceof InvalidError)
      throw new InvalidArgumentError(`${error.message}; ${error.hint ?? ""}.`);
    throw error;
  }
}

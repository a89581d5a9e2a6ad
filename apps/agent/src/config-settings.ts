import { describeError, InvalidError } from "@cocoon-net/core";
import type { Command, Option } from "commander";
import type { ConfigFile, Scalar, Setting, Settings } from "./config-file.ts";

/** Where an option's value comes from, as `config explain` prints it. */
export type SettingPlaces = ReadonlyMap<Option, string>;

/**
 * Gives options their values from the config file; environment and flags win. A key is an option's name in camel case,
 * for every command that has it; under a command's name it is for that one alone, and wins.
 *
 * @returns where each value was set
 * @throws {InvalidError} naming file, line and key of what is wrong
 */
export function applySettings(program: Command, settings: Settings): SettingPlaces {
  const places = new Map<Option, string>();
  applyTo(program, settings, places);
  return places;
}

function applyTo(command: Command, settings: Settings, places: Map<Option, string>): void {
  const sections: [string, Setting][] = [];
  for (const [name, setting] of settings) {
    if (isSection(setting.value)) sections.push([name, setting]);
    else if (!setEverywhere(command, name, setting, places)) throw unknown(name, setting);
  }
  for (const [name, { at, value }] of sections) {
    const inner = sectionsOf(command).find((one) => one.name() === name);
    if (inner && isSection(value)) applyTo(inner, value, places);
    else if (optionsBelow(command).some((one) => one.attributeName() === name)) {
      throw new InvalidError(`${at}: "${name}" takes a value, not a mapping`);
    } else throw unknown(name, { at, value });
  }
}

function setEverywhere(
  command: Command,
  name: string,
  setting: Setting,
  places: Map<Option, string>,
): boolean {
  let found = false;
  const option = settable(command).find((one) => one.attributeName() === name);
  if (option) {
    found = true;
    command.setOptionValueWithSource(name, settingValue(option, setting), "config");
    places.set(option, setting.at);
  }
  for (const inner of command.commands) {
    if (setEverywhere(inner, name, setting, places)) found = true;
  }
  return found;
}

/** Keys whose values differ, as `daemon.metricsAddr`. */
export function changedSettings(before: ConfigFile, now: ConfigFile): string[] {
  const [old, young] = [flat(before), flat(now)];
  return [...new Set([...old.keys(), ...young.keys()])].filter((key) => old.get(key) !== young.get(key));
}

function flat({ settings, drivers, dhcp, cloud }: ConfigFile): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const visit = (some: Settings, path: string): void => {
    for (const [name, { value }] of some) {
      if (isSection(value)) visit(value, `${path}${name}.`);
      else found.set(path + name, JSON.stringify(value));
    }
  };
  visit(settings, "");
  for (const [name, place] of drivers.named ?? []) found.set(`drivers.${name}`, place);
  for (const [section, { value: inner = {} } = {}] of Object.entries({ dhcp, cloud })) {
    for (const [name, value] of Object.entries((inner as object | null) ?? {})) {
      found.set(`${section}.${name}`, JSON.stringify(value));
    }
  }
  return found;
}

/**
 * What a file may say of a command: what stands for good, not what is asked of one run. Of the commands that look at
 * the cluster or copy it, that is the store.
 */
export function settable(command: Command): Option[] {
  const parent = command.parent?.name();
  const standing = (parent !== "cluster" && parent !== "store") || command.name() === "init";
  return command.options.filter((option) => {
    const name = option.attributeName();
    return standing ? !["config", "version", "dryRun", "output"].includes(name) : name === "store";
  });
}

/** The commands that a file may have a section for. An option's name is that option. */
export function sectionsOf(command: Command): Command[] {
  const options = new Set(optionsBelow(command).map((option) => option.attributeName()));
  return command.commands.filter((inner) => !options.has(inner.name()) && optionsBelow(inner).length > 0);
}

export function optionsBelow(command: Command): Option[] {
  return [...settable(command), ...command.commands.flatMap(optionsBelow)];
}

/** Whether an option may be given several times. */
export function isList(option: Option): boolean {
  return option.description.includes("(repeatable)");
}

function settingValue(option: Option, { at, value }: Setting): unknown {
  const refuse = (what: string): InvalidError =>
    new InvalidError(`${at}: "${option.attributeName()}" ${what}`);
  if (option.isBoolean()) {
    if (typeof value === "boolean") return value;
    throw refuse("is not true or false");
  }
  const parse = (one: Scalar, previous: unknown): unknown => {
    if (!option.parseArg) return one;
    try {
      return option.parseArg(String(one), previous);
    } catch (error) {
      throw refuse(`is wrong: ${describeError(error)}`);
    }
  };
  if (isSection(value)) throw refuse("takes a value, not a mapping");
  if (typeof value === "object") {
    if (!isList(option)) throw refuse("takes one value, not a list");
    return value.reduce<unknown>((previous, one) => parse(one, previous), undefined) ?? [];
  }
  if (!option.parseArg && typeof value !== "string") throw refuse("is not a text");
  return parse(value, undefined);
}

function isSection(value: Setting["value"]): value is Settings {
  return value instanceof Map;
}

function unknown(name: string, { at }: Setting): InvalidError {
  return new InvalidError(`${at}: unknown key "${name}"`, {
    hint: "`cocoon-net config schema` lists what there is",
  });
}

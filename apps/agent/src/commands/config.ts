import { parseConnectionUrl } from "@cocoon-net/core";
import type { Command, Option } from "commander";
import type { CommandContext } from "../command-context.ts";
import { isList, optionsBelow, type SettingPlaces, sectionsOf, settable } from "../config-settings.ts";
import { UsageError } from "../failure.ts";
import { renderTable } from "../output.ts";

/** Prints each option of a command with its value and where that comes from. */
export function configExplain(
  program: Command,
  names: readonly string[],
  places: SettingPlaces,
  context: CommandContext,
): void {
  const command = names.reduce((outer, name) => {
    const inner = outer.commands.find((one) => one.name() === name);
    if (inner) return inner;
    throw new UsageError(`there is no command "${names.join(" ")}"`, {
      hint: `\`cocoon-net ${[...pathOf(outer), "--help"].join(" ")}\` lists those that there are`,
    });
  }, program);
  const rows = settable(command).map((option) => {
    const fromEnv = option.envVar === undefined ? undefined : context.env[option.envVar];
    if (fromEnv) return { option, value: fromEnv, origin: `$${option.envVar}` };
    const value: unknown = command.getOptionValue(option.attributeName());
    const text = option.defaultValueDescription ?? textOf(value);
    const place = places.get(option);
    if (place !== undefined) return { option, value: textOf(value), origin: place };
    return { option, value: text, origin: value === undefined ? "not set" : "default" };
  });
  context.print(
    renderTable(rows, [
      { title: "OPTION", value: ({ option }) => option.attributeName() },
      { title: "VALUE", value: ({ option, value }) => withoutSecrets(option, value) },
      { title: "FROM", value: ({ origin }) => origin },
    ]),
  );
}

/** Below the program itself. */
function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}

/** Prints the JSON Schema of the config file, which editors complete it with. */
export function configSchema(program: Command, context: CommandContext): void {
  context.print(JSON.stringify(schemaOf(program), null, 2));
}

function textOf(value: unknown): string {
  if (value === undefined) return "-";
  return Array.isArray(value) ? value.join(", ") || "-" : String(value);
}

/** A store's URL may hold a password. */
function withoutSecrets(option: Option, value: string): string {
  if (!value.includes("://")) return value;
  try {
    return parseConnectionUrl(value).label;
  } catch {
    return option.attributeName() === "store" ? "a URL that cannot be read" : value;
  }
}

function schemaOf(program: Command): object {
  const sections = (command: Command): Record<string, object> =>
    Object.fromEntries(
      sectionsOf(command).map((inner) => [
        inner.name(),
        section(inner, inner.description(), optionsBelow(inner)),
      ]),
    );
  const section = (command: Command, description: string, options: readonly Option[]): object => ({
    type: "object",
    description,
    additionalProperties: false,
    properties: {
      // The first command that has it describes it.
      ...Object.fromEntries(options.toReversed().map((option) => [option.attributeName(), typeOf(option)])),
      ...sections(command),
    },
  });
  const drivers = {
    type: "object",
    description: "third parties' stores and clouds: a package or a path by scheme or platform",
    additionalProperties: { type: "string" },
  };
  const dhcp = { type: "object", description: "how the built-in DHCP server serves" };
  const rates = {
    type: "object",
    additionalProperties: false,
    properties: Object.fromEntries(
      ["perSecond", "burst", "perMinute"].map((name) => [name, { type: "number" }]),
    ),
  };
  const cloud = {
    type: "object",
    description: "how clouds are asked: `budget` has rates by platform and class (`read`, `write`)",
    additionalProperties: false,
    properties: {
      budget: {
        type: "object",
        additionalProperties: { type: "object", additionalProperties: rates },
      },
    },
  };
  const whole = section(program, "cocoon-net's config file", optionsBelow(program));
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "cocoon-net",
    ...whole,
    properties: { ...("properties" in whole ? (whole.properties as object) : {}), drivers, dhcp, cloud },
  };
}

function typeOf(option: Option): object {
  const { description } = option;
  if (option.isBoolean()) return { type: "boolean", description };
  if (isList(option)) return { type: "array", items: { type: "string" }, description };
  if (/<(count|bits)>/.test(option.flags)) return { type: "integer", description };
  if (option.flags.includes("<duration>")) {
    return { type: "string", pattern: "^(\\d+(\\.\\d+)?(ms|s|m|h))+$", description };
  }
  return { type: "string", description };
}

import { describeError, InvalidError, parseAddress, parseCidr, parseConnectionUrl } from "@cocoon-net/core";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { CommandContext } from "./command-context.ts";
import { parseDuration } from "./duration.ts";
import { parseListenAddress } from "./listen-address.ts";
import { checkLevel } from "./log-level.ts";
import { addressesIn } from "./node-plan.ts";
import { parseFormat } from "./output-format.ts";
import { defaultPidFile } from "./pid-file.ts";
import { defaultStateDirectory } from "./state-directory.ts";

// Options that several commands have, and how their values are read.

/** What `init` and `adopt` have in common. */
export function nodeOptions(command: Command, context: CommandContext, poolSize: string): Command {
  command
    .option("--platform <name>", "gke or volcengine; default: whose metadata answers")
    .requiredOption("--node-name <name>", "this node's name in the cluster")
    .option("--subnet <cidr>", "this node's block; optional with --store", block)
    .option("--pool-size <count>", "how many addresses VMs may have", checked(positive), Number(poolSize))
    .option("--gateway <address>", "default: the subnet's first host address", address)
    .option("--primary-nic <name>", "default: eth0 (volcengine), ens4 (gke)")
    .option("--dns <addresses>", "DNS servers for VMs, comma-separated", addresses, "8.8.8.8,1.1.1.1")
    .option("--state-dir <directory>", "where this node's files are", defaultStateDirectory)
    .option("--drop-cidr <cidr>", "a range that VMs must not reach (repeatable)", blocks, [])
    .option("--drop-internal-access", "VMs must not reach other VMs of this subnet", false)
    .option("--dry-run", "print what would be done", false)
    .option("--pid-file <file>", "pid file of the daemon", defaultPidFile)
    .addOption(conflistOption())
    .addOption(parentOption());
  return storeOption(command, context, false);
}

export function parentOption(): Option {
  return new Option(
    "--parent-cidr <cidr>",
    "creates the cluster with this range when the store has none yet",
  ).argParser(block);
}

export function metricsOption(byDefault = ":9092"): Option {
  return new Option("--metrics-addr <address>", "Prometheus metrics; empty disables them")
    .env("COCOON_NET_METRICS_ADDR")
    .argParser(checkedText((text) => text === "" || parseListenAddress(text)))
    .default(byDefault);
}

export function controlSocketOption(): Option {
  return new Option(
    "--control-socket <path>",
    "Unix socket on which the VM engine tells of its VMs; empty disables it (default: /run/cocoon-net/control.sock, control.sock in another --state-dir)",
  ).env("COCOON_NET_CONTROL_SOCKET");
}

export function logLevelOption(): Option {
  return new Option("--log-level <level>", "trace, debug, info, warn, error, fatal or silent (default: info)")
    .env("COCOON_NET_LOG_LEVEL")
    .argParser(checkedText((text) => text === "" || checkLevel(text)));
}

export function outputOption(): Option {
  return new Option("-o, --output <format>", "table, json or yaml")
    .argParser(checked(parseFormat))
    .default("table");
}

export function conflistOption(): Option {
  return new Option("--cni-conflist <file>", "default: /etc/cni/net.d/30-cocoon-dhcp.conflist");
}

export function storeOption(command: Command, context: CommandContext, required: boolean): Command {
  const description = "etcd://host:2379[,host…][/prefix] or redis://…; default: $COCOON_NET_STORE";
  const option = new Option("--store <url>", description).argParser(storeUrl);
  // An empty variable is how a service file says "none".
  if (context.env.COCOON_NET_STORE) option.env("COCOON_NET_STORE");
  if (required) option.makeOptionMandatory();
  return command.addOption(option);
}

/** A duration on the command line, milliseconds for the command. */
export function duration(flag: string, description: string, byDefault?: string, leastMs = 0): Option {
  const parse = (text: string): number => {
    const ms = parseDuration(text);
    if (ms >= leastMs) return ms;
    throw new InvalidError(`"${text}" is too short; it must be at least ${leastMs / 1_000}s`);
  };
  const option = new Option(`${flag} <duration>`, description).argParser(checked(parse));
  return byDefault === undefined ? option : option.default(parseDuration(byDefault), byDefault);
}

export function wholeNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidError(`"${text}" is not a whole number`);
}

function positive(text: string): number {
  const count = wholeNumber(text);
  if (count > 0) return count;
  throw new InvalidError("it must be at least 1");
}

/** A value that does not parse is a mistake in the command line, and its option is named. */
export function checked<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(describeError(error));
    }
  };
}

/** The same, of a value that stays the text that it is. */
function checkedText(parse: (text: string) => unknown): (text: string) => string {
  return checked((text) => {
    parse(text);
    return text;
  });
}

export const address: (text: string) => string = checkedText((text) => parseAddress(text));
export const block: (text: string) => string = checkedText((text) => parseCidr(text));
export const blockOrName: (text: string) => string = checkedText(
  (text) => text.includes("/") && parseCidr(text),
);
/** Separated by commas. */
export const addresses: (text: string) => string = checkedText(addressesIn);
/** An option that may be given several times. */
export function blocks(text: string, before: readonly string[] = []): string[] {
  return [...before, block(text)];
}

/** Its form; which parameters it may have, and whether anybody answers, is for the store's driver to tell. */
export const storeUrl: (text: string) => string = checkedText((text) => {
  // What is in a password file is no matter of the command line.
  const { scheme } = parseConnectionUrl(text, { readSecretFile: () => "" });
  if (scheme !== "memory") return;
  throw new InvalidError("memory: ends with this command, and the cluster with it", {
    hint: "name a server",
  });
});

/**
 * Commander looks for what is missing before it looks for what it does not know, and would tell `--stor URL` as a missing
 * `--store`. Here it is the other way round.
 */
export function tellUnknownFirst(command: Command): void {
  const required = command.options.filter(({ mandatory }) => mandatory);
  for (const option of required) option.makeOptionMandatory(false);
  if (required.length > 0) {
    command.hook("preAction", () => {
      const missing = required.find((option) => command.getOptionValue(option.attributeName()) === undefined);
      if (missing) command.error(`error: required option '${missing.flags}' not specified`);
    });
  }
  for (const inner of command.commands) tellUnknownFirst(inner);
}

export function oneOf<T extends string>(names: readonly T[]): (text: string) => T {
  return checked((text) => {
    const found = names.find((name) => name === text);
    if (found !== undefined) return found;
    throw new InvalidError(`"${text}" is not one of ${names.join(", ")}`);
  });
}

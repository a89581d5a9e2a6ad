import { describeError, InvalidError } from "@cocoon-net/core";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { CommandContext } from "./command-context.ts";
import { parseDuration } from "./duration.ts";
import { parseFormat } from "./output-format.ts";
import { defaultPidFile } from "./pid-file.ts";
import { defaultStateDirectory } from "./state-directory.ts";

// Options that several commands have, and how their values are read.

/** What `init` and `adopt` have in common. */
export function nodeOptions(command: Command, context: CommandContext, poolSize: string): Command {
  command
    .option("--platform <name>", "gke or volcengine; default: whose metadata answers")
    .requiredOption("--node-name <name>", "this node's name in the cluster")
    .option("--subnet <cidr>", "this node's block; optional with --store")
    .option("--pool-size <count>", "how many addresses VMs may have", checked(wholeNumber), Number(poolSize))
    .option("--gateway <address>", "default: the subnet's first host address")
    .option("--primary-nic <name>", "default: eth0 (volcengine), ens4 (gke)")
    .option("--dns <addresses>", "DNS servers for VMs, comma-separated", "8.8.8.8,1.1.1.1")
    .option("--state-dir <directory>", "where this node's files are", defaultStateDirectory)
    .option("--drop-cidr <cidr>", "a range that VMs must not reach (repeatable)", collect, [])
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
  );
}

export function metricsOption(byDefault = ":9092"): Option {
  return new Option("--metrics-addr <address>", "Prometheus metrics; empty disables them")
    .env("COCOON_NET_METRICS_ADDR")
    .default(byDefault);
}

export function logLevelOption(): Option {
  return new Option(
    "--log-level <level>",
    "trace, debug, info, warn, error, fatal or silent (default: info)",
  ).env("COCOON_NET_LOG_LEVEL");
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
  const option = new Option("--store <url>", description);
  // An empty variable is how a service file says "none".
  if (context.env.COCOON_NET_STORE) option.env("COCOON_NET_STORE");
  if (required) option.makeOptionMandatory();
  return command.addOption(option);
}

/** A duration on the command line, milliseconds for the command. */
export function duration(flag: string, description: string, byDefault?: string): Option {
  const option = new Option(`${flag} <duration>`, description).argParser(checked(parseDuration));
  return byDefault === undefined ? option : option.default(parseDuration(byDefault), byDefault);
}

export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

export function wholeNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError(`"${text}" is not a whole number`);
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

export function oneOf<T extends string>(names: readonly T[]): (text: string) => T {
  return checked((text) => {
    const found = names.find((name) => name === text);
    if (found !== undefined) return found;
    throw new InvalidError(`"${text}" is not one of ${names.join(", ")}`);
  });
}

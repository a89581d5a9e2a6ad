import { InvalidError } from "@cocoon-net/core";
import { Command, Option } from "commander";
import type { FaultRule } from "../faults.ts";
import type { ListenAddress } from "../http-listener.ts";
import type { CloudSimulator, Listening } from "../simulator.ts";
import {
  choiceOf,
  collect,
  type Named,
  numberOf,
  numberOfAny,
  numericNames,
  parseFault,
  parseListen,
  parseNumber,
} from "./arguments.ts";

/** What both commands take. */
export interface CommonFlags {
  readonly listen: ListenAddress;
  readonly metadataListen?: ListenAddress;
  readonly instance: readonly string[];
  readonly region: string;
  readonly zone?: string;
  readonly denied: readonly string[];
  readonly limit: Named<number>;
  readonly delay: Named<number>;
  readonly play: Named<unknown>;
  readonly jitter?: number;
  readonly seed?: number;
  readonly fault: readonly FaultRule[];
}

export interface CommandShape {
  readonly name: string;
  readonly description: string;
  /** What `--instance` takes: `<id>`. */
  readonly instance: string;
  readonly region: string;
  readonly limits: object;
  readonly delays: object;
  /** The delays that a single number is for. */
  readonly changes: readonly string[];
  readonly choices: Named<readonly (string | number | boolean)[]>;
}

/** A command with the options that both have; its help lists what limits, delays and choices there are. */
export function commonCommand(shape: CommandShape): Command {
  const { name, description, instance, region, limits, delays, changes, choices } = shape;
  const choiceLines = Object.entries(choices).map(([choice, values]) => `  ${choice}=${values.join("|")}`);
  const listen = { host: "127.0.0.1", port: 0 };
  return new Command(name)
    .description(description)
    .addOption(
      new Option("--listen <host:port>", "address of the API; port 0 takes a free one")
        .argParser(parseListen)
        .default(listen, "127.0.0.1:0"),
    )
    .option("--metadata-listen <host:port>", "address of the metadata service", parseListen)
    .addOption(
      many(
        `--instance ${instance}`,
        "make an instance. With one, the metadata service answers as it, else by source address",
        collect,
        [],
      ),
    )
    .option("--region <region>", "region", region)
    .option("--zone <zone>", "zone of the instances (default: REGION-a)")
    .addOption(many("--denied <permission>", "what nobody may do", collect, []))
    .addOption(many("--limit <name=number>", "a limit, see below", numberOf(limits), {}))
    .addOption(
      many(
        "--delay <ms>",
        "how long each asynchronous change takes, or NAME=MS, see below",
        numberOfAny(delays, changes),
        {},
      ),
    )
    .addOption(many("--play <name=value>", "what the vendor leaves open, see below", choiceOf(choices), {}))
    .option("--jitter <part>", "delays vary by up to this part of them", parseNumber)
    .option("--seed <number>", "of what happens by chance", parseNumber)
    .addOption(many("--fault <json>", "go wrong on purpose, as POST /sim/faults does", parseFault, []))
    .addHelpText(
      "after",
      [
        "",
        `Limits: ${numericNames(limits).join(", ")}`,
        "",
        `Delays, in milliseconds: ${numericNames(delays).join(", ")}`,
        "",
        "What the vendor leaves open (the default first):",
        ...choiceLines,
      ].join("\n"),
    );
}

/** An option that may be given several times. */
export function many<T>(
  flags: string,
  description: string,
  parse: (text: string, earlier: T) => T,
  none: T,
): Option {
  return new Option(flags, `${description}; repeatable`).argParser(parse).default(none, "none");
}

/** Opens the endpoints, prints what there is and how to use it, and serves until a signal comes. */
export async function serve<State, Change>(
  simulator: CloudSimulator<State, Change>,
  flags: CommonFlags,
  open: (metadataOf: string | undefined) => Promise<Listening>,
  words: {
    readonly what: readonly string[];
    /** Environment that points cocoon-net at it. */
    readonly environment: (api: string) => Named<string>;
  },
): Promise<void> {
  for (const rule of flags.fault) simulator.injectFault(rule);
  const [only, ...others] = flags.instance;
  const { api = "", metadata } = await open(others.length === 0 ? only : undefined);
  const environment: Named<string> = {
    ...words.environment(api),
    ...(metadata === undefined ? {} : { COCOON_NET_METADATA_ENDPOINT: metadata }),
  };
  const lines = [
    ...words.what,
    `  API       ${api}`,
    ...(metadata === undefined ? [] : [`  metadata  ${metadata}`]),
    `  look      curl ${api}/sim/state (or /sim/calls, /sim/faults)`,
    "Use it with:",
    ...Object.entries(environment).map(([name, value]) => `  export ${name}=${value}`),
    "Ctrl-C ends it.",
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
  await stopSignal();
}

/** Callers of a loopback address all look the same. @throws {InvalidError} */
export function checkMetadata({ metadataListen, instance }: CommonFlags): void {
  if (metadataListen?.host.startsWith("127.") && instance.length !== 1) {
    throw new InvalidError("--metadata-listen on a loopback address serves one instance", {
      hint: "name it with one --instance",
    });
  }
}

function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGINT", () => resolve());
    process.once("SIGTERM", () => resolve());
  });
}

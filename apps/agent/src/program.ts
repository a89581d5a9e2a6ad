import { Argument, Command, CommanderError, Help, Option } from "commander";
import type { CloudConfig } from "./cloud-config.ts";
import type { CommandContext } from "./command-context.ts";
import type { ConfigFile } from "./config-file.ts";
import type { SettingPlaces } from "./config-settings.ts";
import type { DhcpConfig } from "./dhcp-settings.ts";
import type { DriverPlaces } from "./drivers.ts";
import { addExamples } from "./examples.ts";
import { defaultPidFile } from "./pid-file.ts";
import { addClusterCommands, addStoreCommands } from "./program-cluster.ts";
import {
  addresses,
  checked,
  conflistOption,
  controlSocketOption,
  duration,
  logLevelOption,
  metricsOption,
  nodeOptions,
  outputOption,
  parentOption,
  storeOption,
  tellUnknownFirst,
  wholeNumber,
} from "./program-options.ts";
import { defaultStateDirectory } from "./state-directory.ts";
import { agentVersion } from "./version.ts";

// Each command's code is loaded when it runs: the daemon stays small.
const setUpNode = () => import("./commands/set-up-node.ts");
const config = () => import("./commands/config.ts");

/** The `cocoon-net` command line. Rejects with what a command throws; usage errors are {@link CommanderError}. */
export function createProgram(given: CommandContext): Command {
  let drivers: DriverPlaces | undefined;
  let dhcp: DhcpConfig | undefined;
  let cloud: CloudConfig | undefined;
  let places: SettingPlaces = new Map();
  let reload: CommandContext["reload"];
  const context: CommandContext = {
    signal: given.signal,
    env: given.env,
    get drivers() {
      return drivers ?? given.drivers;
    },
    get dhcp() {
      return dhcp ?? given.dhcp;
    },
    get reload() {
      return reload;
    },
    onHangup: given.onHangup,
    get cloud() {
      return cloud ?? given.cloud;
    },
    screen: given.screen,
    ask: given.ask,
    print: (line) => given.print(line),
    say: (line) => given.say(line),
    requireRoot: () => given.requireRoot(),
  };
  const program = new Command("cocoon-net")
    .description("VPC-routable addresses for the VMs of a node, managed over the whole cluster")
    .version(agentVersion)
    .showSuggestionAfterError()
    .addOption(
      new Option("--config <file>", "YAML with values of options, and third parties' `drivers`").env(
        "COCOON_NET_CONFIG",
      ),
    )
    .configureHelp({ optionDescription })
    .configureOutput({ outputError: (text, write) => write(usageLine(text)) })
    .exitOverride()
    .hook("preSubcommand", async () => {
      const { config: file } = program.opts<{ config?: string }>();
      if (!file) return;
      const [{ readConfigFile }, { applySettings }] = await Promise.all([
        import("./config-file.ts"),
        import("./config-settings.ts"),
      ]);
      const found = await readConfigFile(file);
      drivers = found.drivers;
      places = applySettings(program, found.settings);
      dhcp = await dhcpOf(found);
      reload = async () => {
        const { changedSettings } = await import("./config-settings.ts");
        const now = await readConfigFile(file);
        // Tried on another program first: a file that is wrong changes nothing.
        const other = createProgram(given);
        applySettings(other, now.settings);
        return {
          dhcp: await dhcpOf(now),
          logLevel: levelOnCommandLine() ?? settingOf(other, "daemon", "logLevel"),
          changed: changedSettings(found, now),
        };
      };
      if (found.cloud) {
        const { parseCloudConfig } = await import("./cloud-config.ts");
        cloud = parseCloudConfig(found.cloud.value, found.cloud.at);
      }
    });
  const add = (parent: Command, name: string, description: string): Command =>
    parent.command(name).description(description);

  nodeOptions(
    add(program, "init", "provision this node's addresses at the cloud, then set the host up"),
    context,
    "140",
  )
    .option(
      "--pool-target <count>",
      "so many free addresses are kept ready: the pool follows demand",
      checked(wholeNumber),
    )
    .option("--pool-min <count>", "at least so many addresses in all (default: 0)", checked(wholeNumber))
    .option("--pool-max <count>", "at most so many in all (default: 253)", checked(wholeNumber))
    .addOption(
      duration("--pool-release-after", "how long a surplus lasts before it is given back (default: 10m)"),
    )
    .action(async (flags) => (await setUpNode()).init(flags, context));
  nodeOptions(
    add(program, "adopt", "set up a node whose addresses are already routed to it; no cloud call"),
    context,
    "253",
  )
    .option("--manage-iptables", "set the FORWARD and NAT rules too", false)
    .addOption(
      new Option(
        "--instance-id <id>",
        "the cloud's id of this instance, so that a controller can ask about it",
      ),
    )
    .action(async (flags) => (await setUpNode()).adopt(flags, context));

  /** Which wins over the config file, as the environment does. */
  const levelOnCommandLine = (): string | undefined =>
    ["cli", "env"].includes(daemonCommand.getOptionValueSource("logLevel") ?? "")
      ? daemonCommand.opts<{ logLevel?: string }>().logLevel
      : undefined;
  const controllerCommand = add(
    program,
    "controller",
    "notice dead nodes, fence them, give their addresses back",
  )
    .option("--id <name>", "this controller's name in the election; default host name and pid")
    .addOption(
      new Option("--policy <name>", "what a silent node meets")
        .choices(["instance-gone", "fence", "manual"])
        .default("instance-gone"),
    )
    .addOption(logLevelOption())
    .addOption(duration("--leader-ttl", "how long the cluster waits for a dead leader", "15s", 1_000))
    .addOption(duration("--suspect-after", "silence before a node is called suspect", "5s"))
    .addOption(
      duration("--reclaim-after", "suspicion before the cloud is asked; default the cluster's setting"),
    )
    .addOption(duration("--look-again-after", "pause between the two looks at a dead instance", "10s"))
    .addOption(metricsOption(""));

  const daemonCommand = add(
    program,
    "daemon",
    "serve DHCP to this node's VMs, keep their leases, report to the store",
  )
    .option("--state-dir <directory>", "where this node's files are", defaultStateDirectory)
    .option("--lease-file <file>", "leases for other programs", `${defaultStateDirectory}/leases.json`)
    .option("--skip-iptables", "leave iptables alone", false)
    .addOption(metricsOption())
    .option(
      "--lease-source <source>",
      "builtin, or file:PATH to follow the lease file of another DHCP server: cocoon-net, dnsmasq or Kea",
      "builtin",
    )
    .option(
      "--controller",
      "take part in the election of the controller too, with the settings of that command",
      false,
    )
    .addOption(logLevelOption())
    .addOption(
      duration("--session-ttl", "how long the store keeps this node alive without a sign", "30s", 1_000),
    )
    .option("--pid-file <file>", "pid file; one daemon holds it", defaultPidFile)
    .addOption(controlSocketOption())
    .addOption(conflistOption())
    .addOption(parentOption());
  storeOption(daemonCommand, context, false).action(async (flags) =>
    (await import("./commands/daemon.ts")).daemon(flags, controllerCommand.opts(), context),
  );
  storeOption(controllerCommand, context, true).action(async (flags) =>
    (await import("./commands/controller.ts")).controller(flags, context),
  );

  add(program, "status", "print what this node is set up with")
    .option("--state-dir <directory>", "where this node's files are", defaultStateDirectory)
    .action(async (flags) => (await import("./commands/status.ts")).status(flags, context));

  add(program, "resize", "change how many addresses the node has at the cloud")
    .option("--state-dir <directory>", "where this node's files are", defaultStateDirectory)
    .option("--pool-size <count>", "how many addresses VMs may have, in all", checked(wholeNumber))
    .option(
      "--release <addresses>",
      "addresses to give back, comma-separated; refused while the daemon runs, or a guest has one",
      addresses,
    )
    .option("--lease-file <file>", "leases for other programs", `${defaultStateDirectory}/leases.json`)
    .option("--pid-file <file>", "pid file of the daemon", defaultPidFile)
    .option("--skip-iptables", "leave iptables alone", false)
    .addOption(conflistOption())
    .action(async (flags) => (await import("./commands/resize.ts")).resize(flags, context));

  const doctorCommand = add(program, "doctor", "look at all that this node needs; changes nothing")
    .option("--state-dir <directory>", "where this node's files are", defaultStateDirectory)
    .option("--platform <name>", "gke or volcengine; default: this node's, else whose metadata answers")
    .addOption(metricsOption())
    .option("--pid-file <file>", "pid file of the daemon", defaultPidFile)
    .addOption(outputOption());
  storeOption(doctorCommand, context, false).action(async (flags) =>
    (await import("./commands/doctor.ts")).doctor(flags, context),
  );

  const teardownCommand = add(
    program,
    "teardown",
    "undo init or adopt: cloud resources, registration, rules, files",
  )
    .option("--state-dir <directory>", "where this node's files are", defaultStateDirectory)
    .option("--lease-file <file>", "leases for other programs", `${defaultStateDirectory}/leases.json`)
    .option("--dry-run", "print what would be undone", false)
    .option("--pid-file <file>", "pid file of the daemon", defaultPidFile);
  storeOption(teardownCommand, context, false).action(async (flags) =>
    (await import("./commands/teardown.ts")).teardown(flags, context),
  );

  addClusterCommands(program, context);
  addStoreCommands(program, context);

  const configCommand = add(
    program,
    "config",
    "what the config file may say, and what it makes of a command",
  );
  add(configCommand, "explain", "each option of a command, its value, and where that comes from")
    .argument("<command...>")
    .action(async (names: string[]) => (await config()).configExplain(program, names, places, context));
  add(configCommand, "schema", "JSON Schema of the config file").action(async () =>
    (await config()).configSchema(program, context),
  );
  program
    .command("completion")
    .description("a script that completes this command line, for your shell")
    .addArgument(new Argument("<shell>").choices(["bash", "zsh", "fish"]))
    .action(async (shell: string) =>
      (await import("./commands/completion.ts")).completion(program, shell, context),
    );
  addExamples(program);
  tellUnknownFirst(program);
  return program;
}

/** Whether commander has already told the person what is wrong. */
export function isToldAlready(error: unknown): error is CommanderError {
  return error instanceof CommanderError;
}

async function dhcpOf({ dhcp }: ConfigFile): Promise<DhcpConfig | undefined> {
  if (!dhcp) return undefined;
  return (await import("./dhcp-config.ts")).parseDhcpConfig(dhcp.value, dhcp.at);
}

/** What the config file says of a command's option. */
function settingOf(program: Command, name: string, option: string): string | undefined {
  return program.commands.find((command) => command.name() === name)?.getOptionValue(option);
}

/** Commander's words, without defaults that say nothing. */
function optionDescription(option: Option): string {
  return new Help()
    .optionDescription(option)
    .replace(/ \(default: (false|\[\]|"")\)$/, "")
    .replace(/default: "", /, "");
}

/** Commander's words in one line. */
function usageLine(text: string): string {
  const line = text
    .trim()
    .replace(/^error: /, "")
    .replaceAll(/\s*\n\s*/g, " ")
    // What is wrong says so itself; a store's URL may hold a password.
    .replace(/^(option '[^']*') (?:argument|value) '.*?'( from env '[^']*')? is invalid\. /, "$1$2: ")
    .replace(/^command-argument value '.*' is invalid for argument ('[^']*')\. /, "argument $1: ")
    .replace(/\.$/, "");
  const what = line.startsWith("unknown command") ? "commands" : "options";
  return `cocoon-net: ${line}${line.endsWith("?") ? " " : "; "}--help lists the ${what}\n`;
}

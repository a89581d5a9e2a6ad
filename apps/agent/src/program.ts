import { describeError, InvalidError, nodeStatuses } from "@cocoon-net/core";
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { CloudConfig } from "./cloud-config.ts";
import type { ViewFlags } from "./cluster-views/show.ts";
import { slotStates } from "./cluster-views/slot-states.ts";
import type { View } from "./cluster-views/view.ts";
import type { CommandContext } from "./command-context.ts";
import type { ConfigFile } from "./config-file.ts";
import type { SettingPlaces } from "./config-settings.ts";
import type { DhcpConfig } from "./dhcp-settings.ts";
import type { DriverPlaces } from "./drivers.ts";
import { parseDuration } from "./duration.ts";
import { addExamples } from "./examples.ts";
import { parseFormat } from "./output-format.ts";
import { defaultPidFile } from "./pid-file.ts";
import { defaultStateDirectory } from "./state-directory.ts";
import { agentVersion } from "./version.ts";

// Each command's code is loaded when it runs: the daemon stays small.
const setUpNode = () => import("./commands/set-up-node.ts");
const cluster = () => import("./commands/cluster.ts");
const store = () => import("./commands/store.ts");
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
    .addOption(duration("--leader-ttl", "how long the cluster waits for a dead leader", "15s"))
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
    .addOption(duration("--session-ttl", "how long the store keeps this node alive without a sign", "30s"))
    .option("--pid-file <file>", "pid file; one daemon holds it", defaultPidFile)
    .option(
      "--vm-socket <path>",
      "Unix socket on which the VM engine tells of its VMs (default: vm.sock in the state directory); empty disables it",
    )
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

  add(program, "resize", "change how many addresses the node has at the cloud, while its daemon runs")
    .option("--state-dir <directory>", "where this node's files are", defaultStateDirectory)
    .option("--pool-size <count>", "how many addresses VMs may have, in all", checked(wholeNumber))
    .option("--release <addresses>", "addresses to give back, comma-separated; nobody may have them")
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

  const clusterCommand = add(program, "cluster", "look at the whole cluster");
  storeOption(
    add(clusterCommand, "init", "create the cluster in the store")
      .requiredOption("--parent-cidr <cidr>", "the range all node subnets are cut from")
      .option("--node-prefix <bits>", "prefix length of a node's subnet (default: 24)", checked(wholeNumber))
      .option("--platform <name>", "volcengine or gke", "volcengine")
      .option("--reserve <cidr>", "a block that no node gets (repeatable)", collect)
      .addOption(duration("--lease-time", "how long a VM's lease lasts (default: 24h)"))
      .addOption(duration("--quarantine", "how long a freed subnet stays unused (default: 10m)"))
      .addOption(duration("--reclaim-after", "suspicion before the cloud is asked (default: 5m)")),
    context,
    true,
  ).action(async (flags) => (await cluster()).clusterInit(flags, context));
  addViews(clusterCommand, context);
  addOperations(clusterCommand, context);
  addMigrations(clusterCommand, context);
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
  return program;
}

function addViews(clusterCommand: Command, context: CommandContext): void {
  type Views = typeof import("./cluster-views/index.ts");
  const show = async (flags: ViewFlags, make: (views: Views) => View): Promise<void> => {
    const views = await import("./cluster-views/index.ts");
    await views.showView(make(views), flags, context);
  };
  const view = (name: string, description: string): Command =>
    storeOption(clusterCommand.command(name).description(description), context, true).addOption(
      outputOption(),
    );
  const watched = (name: string, description: string): Command =>
    view(name, description).option("-w, --watch", "show it again whenever it changes", false);
  const node = ["--node <name>", "only this node's"] as const;
  const subnet = ["--subnet <cidr>", "only what lies in this block"] as const;

  watched("nodes", "every node: status, subnet, use")
    .option("--node <name>", "only this node")
    .option("--status <status>", `only these: ${nodeStatuses.join(", ")}`, oneOf(nodeStatuses))
    .option(...subnet)
    .action((flags) => show(flags, ({ nodesView }) => nodesView(flags)));
  watched("subnets", "every slot that is owned or in quarantine")
    .option(...node)
    .option("--status <status>", `only these: ${slotStates.join(", ")}`, oneOf(slotStates))
    .option(...subnet)
    .action((flags) => show(flags, ({ subnetsView }) => subnetsView(flags)));
  watched("subnet", "one subnet: whose it is, its use, a map of its addresses")
    .argument("<subnet|node>", "its CIDR, or the name of its node")
    .action((which, flags) => show(flags, ({ subnetView }) => subnetView(which)));
  watched("leases", "every lease of every node")
    .option(...node)
    .option(...subnet)
    .option("--vm <id>", "only this VM's")
    .action((flags) => show(flags, ({ leasesView }) => leasesView(flags)));
  watched("ip", "one address: who has it, since when, its history")
    .argument("<address>")
    .action((address, flags) => show(flags, ({ addressView }) => addressView(address)));
  watched("vm", "one VM: the addresses that it has")
    .argument("<id>")
    .action((vm, flags) => show(flags, ({ vmView }) => vmView(vm)));
  watched("events", "who owned what, when, why")
    .option(...node)
    .option(...subnet)
    .action((flags) => show(flags, ({ eventsView }) => eventsView(flags)));
  view("watch", "the whole cluster in a few lines, live").action((flags) =>
    show({ ...flags, watch: true }, ({ overview }) => overview()),
  );
}

function addOperations(clusterCommand: Command, context: CommandContext): void {
  const operate = () => import("./commands/operate.ts");
  const on = (name: string, description: string): Command =>
    storeOption(clusterCommand.command(name).description(description), context, true);
  on("pause", "stop everything that frees addresses, also what is under way")
    .requiredOption("--reason <text>", "for whoever finds it paused")
    .action(async (flags) => (await operate()).clusterPause(flags, context));
  on("resume", "let it go on").action(async (flags) => (await operate()).clusterResume(flags, context));
  on("drain", "let a node leave in order: nobody new, and when its last guest has gone its block is freed")
    .argument("<node>")
    .option("--cancel", "let it stay", false)
    .action(async (node, flags) => (await operate()).clusterDrain(node, flags, context));
  const check = () => import("./commands/check.ts");
  const withoutCloud = ["--no-cloud", "look at the store only"] as const;
  on("check", "hold store, clouds and nodes against each other; exit 1 on any finding")
    .option(...withoutCloud)
    .addOption(outputOption())
    .action(async (flags) => (await check()).clusterCheck(flags, context));
  on("repair", "mend what two checks agree on, after showing what that is")
    .option(...withoutCloud)
    .option("--dry-run", "show it only", false)
    .option("--yes", "do not ask", false)
    .addOption(duration("--between", "pause between the two checks", "10s"))
    .action(async (flags) => (await check()).clusterRepair(flags, context));
  on("reclaim", "take the block of a silent node without waiting for the policy; the cloud fences it first")
    .argument("<node>")
    .option("--force", "go on when no fence can be verified; asks for the node's name", false)
    .option("--confirm <node>", "the node's name, where there is no terminal to ask at")
    .action(async (node, flags) => (await operate()).clusterReclaim(node, flags, context));
}

function addMigrations(clusterCommand: Command, context: CommandContext): void {
  const migrate = () => import("./commands/migrate.ts");
  storeOption(
    clusterCommand
      .command("migrate")
      .description("let a guest keep its address on another node; the VM itself is moved by who runs it")
      .option("--ip <address>", "the guest's address")
      .option("--vm <id>", "the guest, by its VM")
      .option("--to <node>", "the node that is to serve it")
      .option("--wait", "until it is done, or is not to be", false)
      .option("--cancel", "stop the move of --ip; not any more once the new node has the address", false),
    context,
    true,
  ).action(async (flags) => (await migrate()).clusterMigrate(flags, context));
}

function oneOf<T extends string>(names: readonly T[]): (text: string) => T {
  return checked((text) => {
    const found = names.find((name) => name === text);
    if (found !== undefined) return found;
    throw new InvalidError(`"${text}" is not one of ${names.join(", ")}`);
  });
}

function addStoreCommands(program: Command, context: CommandContext): void {
  const storeCommand = program
    .command("store")
    .description("move a cluster between stores, save it to a file, check it");
  storeCommand
    .command("copy")
    .description("move the whole cluster to another store, which is in use from then on")
    .requiredOption("--from <url>", "the store that it is in")
    .requiredOption("--to <url>", "an empty store, or one that an earlier try has begun to fill")
    .option("--verify", "read both sides again before the new one is put to use", false)
    .option("--live", "while agents and controllers are running", false)
    .action(async (flags) => (await store()).storeCopy(flags, context));
  const onOne = (name: string, description: string): Command =>
    storeOption(storeCommand.command(name).description(description), context, true);
  onOne("export", "write the whole cluster to a file; the store stays in use")
    .requiredOption("--file <file>", "the file to write; it is replaced when it is there")
    .action(async (flags) => (await store()).storeExport(flags, context));
  onOne("import", "fill an empty store from such a file")
    .requiredOption("--file <file>", "what `store export` wrote")
    .action(async (flags) => (await store()).storeImport(flags, context));
  onOne("check", "hold every record against what this version writes; exit 1 on any finding").action(
    async (flags) => (await store()).storeCheck(flags, context),
  );
}

/** Whether commander has already told the person what is wrong. */
export function isUsageError(error: unknown): error is CommanderError {
  return error instanceof CommanderError;
}

function nodeOptions(command: Command, context: CommandContext, poolSize: string): Command {
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

function parentOption(): Option {
  return new Option(
    "--parent-cidr <cidr>",
    "creates the cluster with this range when the store has none yet",
  );
}

function metricsOption(byDefault = ":9092"): Option {
  return new Option("--metrics-addr <address>", "Prometheus metrics; empty disables them")
    .env("COCOON_NET_METRICS_ADDR")
    .default(byDefault);
}

function logLevelOption(): Option {
  return new Option(
    "--log-level <level>",
    "trace, debug, info, warn, error, fatal or silent (default: info)",
  ).env("COCOON_NET_LOG_LEVEL");
}

async function dhcpOf({ dhcp }: ConfigFile): Promise<DhcpConfig | undefined> {
  if (!dhcp) return undefined;
  return (await import("./dhcp-config.ts")).parseDhcpConfig(dhcp.value, dhcp.at);
}

/** What the config file says of a command's option. */
function settingOf(program: Command, name: string, option: string): string | undefined {
  return program.commands.find((command) => command.name() === name)?.getOptionValue(option);
}

function outputOption(): Option {
  return new Option("-o, --output <format>", "table, json or yaml")
    .argParser(checked(parseFormat))
    .default("table");
}

function conflistOption(): Option {
  return new Option("--cni-conflist <file>", "default: /etc/cni/net.d/30-cocoon-dhcp.conflist");
}

function storeOption(command: Command, context: CommandContext, required: boolean): Command {
  const description = "etcd://host:2379[,host…][/prefix] or redis://…; default: $COCOON_NET_STORE";
  const option = new Option("--store <url>", description);
  // An empty variable is how a service file says "none".
  if (context.env.COCOON_NET_STORE) option.env("COCOON_NET_STORE");
  if (required) option.makeOptionMandatory();
  return command.addOption(option);
}

/** A duration on the command line, milliseconds for the command. */
function duration(flag: string, description: string, byDefault?: string): Option {
  const option = new Option(`${flag} <duration>`, description).argParser(checked(parseDuration));
  return byDefault === undefined ? option : option.default(parseDuration(byDefault), byDefault);
}

function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

function wholeNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError(`"${text}" is not a whole number`);
}

/** A value that does not parse is a mistake in the command line, and its option is named. */
function checked<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(describeError(error));
    }
  };
}

/** Commander's words in one line. */
function usageLine(text: string): string {
  const line = text
    .trim()
    .replace(/^error: /, "")
    .replaceAll(/\s*\n\s*/g, " ");
  return `cocoon-net: ${line}; --help lists the options\n`;
}

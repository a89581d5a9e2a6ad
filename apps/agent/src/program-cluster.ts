import { nodeStatuses } from "@cocoon-net/core";
import type { Command } from "commander";
import type { ViewFlags } from "./cluster-views/show.ts";
import { slotStates } from "./cluster-views/slot-states.ts";
import type { View } from "./cluster-views/view.ts";
import type { CommandContext } from "./command-context.ts";
import {
  address,
  block,
  blockOrName,
  blocks,
  checked,
  duration,
  oneOf,
  outputOption,
  storeOption,
  storeUrl,
  wholeNumber,
} from "./program-options.ts";

const cluster = () => import("./commands/cluster.ts");
const store = () => import("./commands/store.ts");

/** `cocoon-net cluster …` */
export function addClusterCommands(program: Command, context: CommandContext): void {
  const clusterCommand = program.command("cluster").description("look at the whole cluster, and act on it");
  storeOption(
    clusterCommand
      .command("init")
      .description("create the cluster in the store")
      .requiredOption("--parent-cidr <cidr>", "the range all node subnets are cut from", block)
      .option("--node-prefix <bits>", "prefix length of a node's subnet (default: 24)", checked(wholeNumber))
      .option("--platform <name>", "volcengine or gke", "volcengine")
      .option("--reserve <cidr>", "a block that no node gets (repeatable)", blocks)
      .addOption(duration("--lease-time", "how long a VM's lease lasts (default: 24h)"))
      .addOption(duration("--quarantine", "how long a freed subnet stays unused (default: 10m)"))
      .addOption(duration("--reclaim-after", "suspicion before the cloud is asked (default: 5m)")),
    context,
    true,
  ).action(async (flags) => (await cluster()).clusterInit(flags, context));
  addViews(clusterCommand, context);
  addOperations(clusterCommand, context);
  addMigrations(clusterCommand, context);
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
  const subnet = ["--subnet <cidr>", "only what lies in this block", block] as const;

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
    .argument("<subnet|node>", "its CIDR, or the name of its node", blockOrName)
    .action((which, flags) => show(flags, ({ subnetView }) => subnetView(which)));
  watched("leases", "every lease of every node")
    .option(...node)
    .option(...subnet)
    .option("--vm <id>", "only this VM's")
    .action((flags) => show(flags, ({ leasesView }) => leasesView(flags)));
  watched("ip", "one address: who has it, since when, its history")
    .argument("<address>", "an address of the cluster", address)
    .action((which, flags) => show(flags, ({ addressView }) => addressView(which)));
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
      .option("--ip <address>", "the guest's address", address)
      .option("--vm <id>", "the guest, by its VM")
      .option("--to <node>", "the node that is to serve it")
      .option("--wait", "until it is done, or is not to be", false)
      .option("--cancel", "stop the move of --ip; not any more once the new node has the address", false),
    context,
    true,
  ).action(async (flags) => (await migrate()).clusterMigrate(flags, context));
}

/** `cocoon-net store …` */
export function addStoreCommands(program: Command, context: CommandContext): void {
  const storeCommand = program
    .command("store")
    .description("move a cluster between stores, save it to a file, check it");
  storeCommand
    .command("copy")
    .description("move the whole cluster to another store, which is in use from then on")
    .requiredOption("--from <url>", "the store that it is in", storeUrl)
    .requiredOption("--to <url>", "an empty store, or one that an earlier try has begun to fill", storeUrl)
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

import { createInterface } from "node:readline/promises";
import { describeError } from "@cocoon-net/core";
import { clusterTable } from "./cluster-table.ts";
import type { Timeline } from "./timeline.ts";
import type { World } from "./world.ts";

interface PlayCommand {
  readonly usage: string;
  readonly does: string;
  run(first: string, second: string): Promise<void>;
}

/** Lets a person at the terminal play with the cluster until they quit, or until `stop` aborts. */
export async function prompt(world: World, timeline: Timeline, stop: AbortController): Promise<void> {
  const commands = playCommands(world, timeline, stop);
  const lines = createInterface({
    input: process.stdin,
    output: process.stdout,
    prompt: "lab> ",
    completer: (line: string): [string[], string] => [
      [...commands.keys()].filter((name) => name.startsWith(line)),
      line,
    ],
  });
  // On a terminal in raw mode Ctrl-C is a key, not a signal.
  lines.on("SIGINT", () => stop.abort());
  lines.on("close", () => stop.abort());
  stop.signal.addEventListener("abort", () => lines.close(), { once: true });
  timeline.printWith((text) => {
    console.log(`\r\x1b[K${text}`);
    if (!stop.signal.aborted) lines.prompt(true);
  });
  timeline.text("\nPlay with it here: help says how. Ctrl-C ends it and cleans up.\n");
  for await (const line of lines) {
    const [name = "", first = "", second = ""] = line.trim().split(/\s+/);
    try {
      if (name !== "") await (commands.get(name) ?? commands.get("help"))?.run(first, second);
    } catch (error) {
      if (!stop.signal.aborted) timeline.failed(describeError(error));
    }
    if (stop.signal.aborted) break;
    lines.prompt();
  }
  timeline.printWith(console.log);
  process.stdout.write("\r\x1b[K");
}

function playCommands(
  world: World,
  timeline: Timeline,
  stop: AbortController,
): ReadonlyMap<string, PlayCommand> {
  const commands: readonly PlayCommand[] = [
    {
      usage: "show",
      does: "nodes, the subnets they own, their leases",
      run: async () => timeline.text(await clusterTable(world.store)),
    },
    {
      usage: "add NODE",
      does: "a new node joins",
      run: async (node) => {
        if (!/^[a-z][a-z0-9-]{0,11}$/.test(node)) throw new Error("a name is like n5");
        timeline.step(`${node} joins`);
        await world.addNode(node);
        timeline.done(`${node} is up`);
      },
    },
    {
      usage: "vm NODE",
      does: "a VM boots on it",
      run: async (node) => {
        const number = [...world.machines.values()].filter((machine) => machine.node === node).length + 1;
        const { name, address } = await world.addVirtualMachine(node, `${node}-vm${number}`);
        timeline.done(`${name} got ${address}`);
      },
    },
    {
      usage: "ping VM ADDRESS",
      does: "from a VM, for example ping n1-vm1 172.20.2.3",
      run: async (name, address) => {
        const machine = world.machines.get(name);
        if (!machine) throw new Error(`there is no VM ${name}: ${[...world.machines.keys()].join(", ")}`);
        const answers = await world.ping(machine, address);
        timeline[answers ? "done" : "failed"](
          `${address} ${answers ? "answers" : "does not answer"} ${name}`,
        );
      },
    },
    {
      usage: "kill NODE",
      does: "its agent is killed, the cloud says stopped",
      run: async (node) => {
        await world.crash(node);
        timeline.done(`${node} is dead; watch what the controllers do`);
      },
    },
    {
      usage: "help",
      does: "this",
      run: async () => {
        for (const { usage, does } of commands) timeline.text(`  ${usage.padEnd(17)}${does}`);
      },
    },
    { usage: "quit", does: "ends it and cleans up", run: async () => stop.abort() },
  ];
  return new Map(commands.map((command) => [command.usage.split(" ")[0] ?? "", command]));
}

import { fileURLToPath } from "node:url";
import { DisposeStack } from "@cocoon-net/core";
import { AgentNode } from "./agent-node.ts";
import { Running } from "./command.ts";

const simulator = fileURLToPath(
  new URL("../../../../packages/cloud-testkit/bin/cocoon-cloud-sim.js", import.meta.url),
);

const api = "127.0.0.1:8080";

export interface Simulated extends AsyncDisposable {
  readonly node: AgentNode;
  state(): Promise<Record<string, unknown[]>>;
  calls(): Promise<Record<string, Record<string, number>>>;
  /** `preempt`, `stop`, … of an instance. */
  instance(name: string, verb: string): Promise<void>;
}

/** The simulator's command beside a node that has what the command says to export in its environment. */
export async function startSimulator(...args: readonly string[]): Promise<Simulated> {
  await using parts = new DisposeStack();
  const node = parts.use(await AgentNode.create());
  const { namespace } = node;
  await namespace.ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire0");
  await namespace.ip("link", "set", "eth0", "up");
  const listen = ["--listen", api, "--metadata-listen", "127.0.0.1:8081", "--delay", "20"];
  const running = parts.use(
    new Running("cocoon-cloud-sim", [...namespace.enter, process.execPath, simulator, ...args, ...listen]),
  );
  await running.says("Ctrl-C ends it.");
  const exports = running.output.matchAll(/^ {2}export (\w+)=(\S+)$/gm);
  Object.assign(node.env, Object.fromEntries([...exports].map(([, name, value]) => [name, value])), {
    // No credentials of whoever runs this.
    CLOUDSDK_CONFIG: node.path("none"),
  });
  const owned = parts.move();
  const ask = async <T>(path: string, method = "GET"): Promise<T> => {
    const script = `fetch("http://${api}${path}", { method: "${method}" }).then((answer) => answer.text()).then(console.log)`;
    return JSON.parse(await namespace.exec(process.execPath, "-e", script)) as T;
  };
  return {
    node,
    state: () => ask("/sim/state"),
    calls: () => ask("/sim/calls"),
    instance: async (name, verb) => void (await ask(`/sim/instances/${name}/${verb}`, "POST")),
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

/** What `init` says and prints. `setUpArgs` names a platform: the last one counts. */
export async function init(node: AgentNode, platform: string, ...more: readonly string[]): Promise<string> {
  const args = node.setUpArgs("init", "--platform", platform, "--subnet", "172.20.7.0/24", ...more);
  const { code, stdout, stderr } = await node.run(...args, "--primary-nic", "eth0");
  if (code !== 0) throw new Error(`init: ${code}: ${stderr}${stdout}`);
  return stderr + stdout;
}

export async function teardown(node: AgentNode): Promise<string> {
  const files = ["--state-dir", node.path("state"), "--lease-file", node.path("leases.json")];
  return await node.do("teardown", ...files, "--pid-file", node.path("daemon.pid"));
}
